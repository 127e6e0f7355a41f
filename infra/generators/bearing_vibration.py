"""Vibration of a motor's rolling bearing, healthy or with a damaged race or ball, as a logger's CSV.

Two accelerometers (drive end, fan end) at 12 kHz, 16-bit counts, a row a sample. A motor turns at about 1,770 rpm and
hums; a damaged bearing rings at each pass of the damage, an impact train at the frequency that its geometry gives
(P. D. McFadden, J. D. Smith, Model for the vibration produced by a single point defect in a rolling element bearing,
1984), with slip, a decaying resonance of the housing that depends on the way from the damage to the sensor, and for the inner race and the ball a load that comes and goes.
The factors are those of the bearing SKF 6205. A recording of 10,240 samples has one state; speed, noise and severity
differ from one recording to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIX = ".csv"
RATE = 12_000.0  # samples a second
RECORDING = 10_240  # samples in one state
STATES = ("healthy", "inner-race", "outer-race", "ball")
# passes of the damage in a turn of the shaft, how often the load comes and goes in a turn, resonance in Hz
DAMAGE = {"inner-race": (5.4152, 1.0, 4200.0), "outer-race": (3.5848, 0.0, 2500.0), "ball": (4.7135, 0.398, 3300.0)}


def write(path: Path, rows: int, seed: int) -> None:
    """`rows` samples, columns `drive_end`, `fan_end` and `state`."""
    random = np.random.default_rng(seed)
    schema = pa.schema([("drive_end", pa.int16()), ("fan_end", pa.int16()), ("state", pa.string())])
    with pacsv.CSVWriter(path, schema) as writer:
        for start in range(0, rows, RECORDING):
            state = STATES[int(random.integers(len(STATES)))]
            counts = recording(state, random)[: rows - start]
            states = pa.DictionaryArray.from_arrays(np.zeros(len(counts), np.int32), [state]).cast(pa.string())
            writer.write_batch(pa.record_batch([*(pa.array(end) for end in counts.T), states], schema=schema))


def recording(state: str, random: np.random.Generator) -> NDArray[np.int16]:
    """(RECORDING, 2) counts of both sensors in one state."""
    time = np.arange(RECORDING) / RATE
    turns = random.uniform(28.5, 30.5)  # a second
    hum = sum(
        random.uniform(0.05, 0.2) / order * np.sin(2 * np.pi * (order * turns * time + random.uniform()))
        for order in (1, 2, 3)
    )
    signal = random.normal(0, random.uniform(0.25, 0.45), (2, RECORDING)) + hum
    if state in DAMAGE:
        passes, load, resonance = DAMAGE[state]
        resonance *= random.uniform(0.95, 1.05)
        train = _impacts(passes * turns, load * turns, random)
        ring_time = np.arange(240) / RATE
        for end, (far, pitch) in enumerate(((1.0, 1.0), (0.45, 0.93))):
            ring = np.exp(-ring_time * random.uniform(700, 1000)) * np.sin(2 * np.pi * resonance * pitch * ring_time)
            signal[end] += far * random.uniform(1.2, 3.0) * np.convolve(train, ring)[:RECORDING]
    return np.clip(np.rint(signal.T * 2000), -32768, 32767).astype(np.int16)


def _impacts(frequency: float, load: float, random: np.random.Generator) -> NDArray[np.float64]:
    """(RECORDING,) an impulse at each pass of the damage, with one per cent of slip, heavier where the load is."""
    count = int(RECORDING / RATE * frequency * 1.1) + 2
    times = np.cumsum(random.normal(1, 0.01, count) / frequency) - random.uniform() / frequency
    strengths = random.uniform(0.8, 1.2, count) * (0.65 + 0.35 * np.cos(2 * np.pi * load * times))
    places = np.rint(times * RATE).astype(np.intp)
    inside = (places >= 0) & (places < RECORDING)
    train = np.zeros(RECORDING)
    np.add.at(train, places[inside], strengths[inside])
    return train
