"""Encryption of what a restricted dataset puts into the store; what it protects against whom is in `docs/security.md`.

Three keys, each under the next:

- an object is sealed with AES-256-GCM (`infra/security/sealing.py`) under the data key of its set: the shards of a
  source that are encrypted together, or the rows that one site escalates in one run;
- the data key is wrapped with RSA-OAEP to each site that has to read the set (`infra/security/access.py`), and lies in
  the store as one small object a site;
- a site's private key never leaves its disk (`infra/security/pairs.py`).

So a site's pair is changed by wrapping its data keys anew, and a site loses its access with its own small objects,
while no sealed object is touched. A public dataset uses none of it, and imports none of `cryptography`.
"""
