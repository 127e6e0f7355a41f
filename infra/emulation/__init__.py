"""Emulated sites on one machine, for the laboratory: slow links, slow processors, and faults. Nothing else uses it.

| what | with root's rights on Linux | elsewhere |
|---|---|---|
| rates of a link | `tc tbf` at both ends of a veth pair into a network namespace | a token bucket in a relay |
| latency | `tc netem` where the kernel has it, else the relay holds every byte back | the relay |
| speed | a share of a core by cgroup (`cpu.max`, or `cpu.cfs_quota_us` of version 1) | stopped and continued in turn |

A relay (`infra/emulation/relay.py`) stands between every edge site and the store in any case; a link is cut by stopping it.
"""
