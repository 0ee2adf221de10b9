"""Speak one text with libespeak-ng: run as a program, in a process of its own.

Within one process the library does not repeat itself bit for bit, so each text gets a fresh one.
It imports the standard library only, so that a process starts in milliseconds. Request on the
standard input, as JSON; the answer, on the standard output, is one line of JSON and then 16-bit
samples.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

# speak_lib.h of espeak-ng
_RETRIEVAL = 1
_DONT_EXIT = 0x8000
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_AS_IS = 0


def main() -> None:
    """Read the request, speak, answer."""
    request = json.load(sys.stdin)
    library = ctypes.CDLL(request["library"])
    rate = library.espeak_Initialize(_RETRIEVAL, 0, request["data"].encode(), _DONT_EXIT)
    if rate <= 0:
        _answer({"error": f"espeak-ng cannot read its data at {request['data']}"})
        return
    # An unknown variant would be left out without a word.
    variants = set(os.listdir(os.path.join(request["data"], "voices", "!v")))  # noqa: PTH118, PTH208
    unknown = [
        voice
        for voice in request["voices"]
        if library.espeak_SetVoiceByName(voice.encode()) != 0
        or not set(voice.split("+")[1:]) <= variants
    ]
    if unknown or "text" not in request:
        _answer({"unknown": unknown})
        return
    for parameter, key in ((_RATE, "rate"), (_PITCH, "pitch"), (_RANGE, "range")):
        library.espeak_SetParameter(parameter, request[key], 0)
    chunks: list[bytes] = []
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
    )

    def keep(wave: object, count: int, _events: object) -> int:
        if wave and count > 0:
            chunks.append(ctypes.string_at(wave, 2 * count))  # type: ignore[arg-type]
        return 0

    kept = kind(keep)  # a name of its own: it must live as long as the library calls it
    library.espeak_SetSynthCallback(kept)
    text = request["text"].encode()
    library.espeak_Synth(
        ctypes.c_char_p(text), ctypes.c_size_t(len(text) + 1), 0, _AS_IS, 0, _UTF8, None, None
    )
    library.espeak_Synchronize()
    _answer({"rate": rate}, b"".join(chunks))


def _answer(facts: dict[str, object], samples: bytes = b"") -> None:
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n" + samples)


if __name__ == "__main__":
    main()
