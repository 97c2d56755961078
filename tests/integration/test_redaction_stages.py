"""Redaction where it is applied: files by prefix, search by right, sound without what was said."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from scheduler.redaction import find_masks, muted, read_rules
from stenopool.config import Limits
from stenopool.errors import MediaMissing, MediaUnreadable
from storage.folder import FolderStore
from storage.keys import pcm_key, source_key
from storage.redactions import Redactions
from storage.search import Search, Wanted
from tests import sounds
from tests.farms import HandFarm, S
from tests.transcripts import segment, transcript
from workers.ingest import SamplesGone, digest_file, ingest
from workers.redact import write_muted, write_muted_from

CARD = "4111 1111 1111 1111"


def texts(farm: HandFarm, query: str, *, redacted: bool) -> list[str]:
    """What is found by who may see all, or may not."""
    wanted = Wanted(query=query, redacted=redacted)
    return [hit.text for hit in Search(farm.farm.database).find(wanted).hits]


def test_redacted_files_lie_apart(hand_farm: HandFarm) -> None:
    """The full ones, the redacted ones and the map below three prefixes; those that are lost are put again."""
    farm = hand_farm
    plain, one = farm.submit(2), farm.submit(2, redact="card")
    farm.go(by=f"pay {CARD} ok ")

    assert [key.split("/")[:2] for key in farm.keys("") if key.endswith(("txt", "map.json"))] == [
        ["maps", str(one.id)],
        ["redacted", str(one.id)],
        ["transcripts", str(plain.id)],
        ["transcripts", str(one.id)],
    ]
    [map_key] = farm.keys("maps")
    redactions = json.loads(farm.store.read(map_key, 0, 10_000))["redactions"]
    assert [(entry["kind"], entry["text"]) for entry in redactions] == [("card", CARD)]
    for key in farm.keys("redacted"):
        assert b"4111" not in farm.store.read(key, 0, 100_000), key
    assert {found.which.split("/")[0] for found in farm.collect()} == {"sources"}
    gone = [map_key, farm.keys("redacted")[0]]
    for key in gone:
        farm.store.delete(key)
    assert sorted(found.which for found in farm.collect()) == sorted(gone)
    assert farm.collect() == []


def test_search_shows_nobody_what_is_redacted(hand_farm: HandFarm) -> None:
    """Without the right, only what is left is found, and nothing of what nobody redacted; also after a rebuild."""
    farm = hand_farm
    farm.submit(2)
    farm.submit(2, redact="card")
    farm.go(by=f"pay {CARD} ok ")
    full = f"pay {CARD} ok 0"

    for _ in range(2):
        assert texts(farm, "4111", redacted=False) == [full, full]
        assert texts(farm, "4111", redacted=True) == []
        assert texts(farm, "pay", redacted=True) == ["pay [CARD] ok 0"]
        assert texts(farm, "card", redacted=False) == []
        list(Search(farm.farm.database).reindex())


def test_what_is_redacted_stays_so(hand_farm: HandFarm) -> None:
    """By other rules, more of it is; nothing comes back."""
    farm = hand_farm
    one = farm.submit(2, redact="card")
    farm.go(by=f"a@b.org {CARD} ")
    [(_, id)] = farm.now(one).transcripts
    redactions = Redactions(farm.farm.database)
    said = [segment(0, 2, f" a@b.org {CARD} 0")]

    masks = redactions.keep(id, find_masks(said, read_rules("email")))

    assert [mask.kind for mask in masks] == ["email", "card"]
    assert redactions.masks(id) == masks
    assert texts(farm, "email", redacted=True) == ["[EMAIL] [CARD] 0"]
    assert redactions.masks(99) is None
    assert redactions.keep(99, masks) == []


def sound(folder: Path, seed: int = 1) -> Path:
    """Ten seconds of noise, in no sample silent."""
    noise = np.random.default_rng(seed).integers(1000, 8000, (1, 10 * S)).astype(np.int16)
    return sounds.write(folder / f"noise{seed}.wav", noise)


def test_the_sound_without_it(tmp_path: Path) -> None:
    """Sample for sample what it was, but silent where it was said, and 50 ms around."""
    import threading

    store = FolderStore(tmp_path / "objects")
    [heard] = ingest(sound(tmp_path), store, split=False, vad=False, stop=threading.Event())
    said = transcript(segment(2, 8, f" card {CARD} ok", words=True), seconds=10)
    said = type(said)(
        **{name: getattr(said, name) for name in said.__dataclass_fields__} | {"recording": heard.recording}
    )
    masks = find_masks(said.segments, read_rules("card"))

    write_muted(tmp_path / "out.wav", store, said, masks)

    with wave.open(str(tmp_path / "out.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (S, 1, 2)
        written = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    original = np.frombuffer(store.read(pcm_key(heard.recording), 0, 20 * S), "<i2")
    [quiet] = muted(said.segments, masks, said.duration)
    assert (quiet.start, quiet.end) == (3 * S - 800, 7 * S + 800)
    assert not written[quiet.start : quiet.end].any()
    assert np.array_equal(written[: quiet.start], original[: quiet.start])
    assert np.array_equal(written[quiet.end :], original[quiet.end :])


def test_the_sound_where_it_is_to_be_had(tmp_path: Path) -> None:
    """From the samples, from the file that the farm kept, from the file that is named; else a line says so."""
    import threading
    from dataclasses import replace

    path, other = sound(tmp_path), sound(tmp_path, 2)
    store = FolderStore(tmp_path / "objects")
    [heard] = ingest(path, FolderStore(tmp_path / "elsewhere"), split=False, vad=False, stop=threading.Event())
    said = replace(transcript(segment(2, 8, " ok"), seconds=10), recording=heard.recording)
    sha = digest_file(path)

    def write(source: Path | None, kept_as: str = source_key(sha)) -> bytes:
        out = tmp_path / "out.wav"
        write_muted_from(out, store, said, [], kept_as=kept_as, source=source, limits=Limits())
        return out.read_bytes()

    with pytest.raises(SamplesGone):
        write_muted(tmp_path / "out.wav", store, said, [])
    with pytest.raises(MediaMissing, match=r"talk\.mp3: its sound is not in the object store any more.*--source"):
        write(None)
    with pytest.raises(MediaMissing, match=r"talk\.mp3: its sound is not in the object store any more.*--source"):
        write(None, "https://example.org/talk.mp3")
    with pytest.raises(MediaUnreadable, match=r"noise2\.wav: is not what talk\.mp3 was transcribed from"):
        write(other)
    named = write(path)
    store.upload(path, f"sources/{sha}")
    assert write(None) == named
    assert len(named) == 44 + 20 * S
