"""Croissant 1.1 metadata of a generated set: that it is synthetic, of what it was made, and how.

Written as plain JSON-LD after the specification; the tests let ``mlcroissant`` validate and read
it. It holds no date, so that equal runs give equal bytes.

References
----------
MLCommons (2026). Croissant format specification, version 1.1.
https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
W3C (2013). PROV-O: the PROV ontology. https://www.w3.org/TR/prov-o/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from typing import Any, Literal

from .recipe import Recipe
from .registry import spec
from .values import Params, to_json

_CONTEXT: Params = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_MEDIA = {"image": ("*.png", "image/png", "sc:ImageObject"),
          "audio": ("*.wav", "audio/wav", "sc:AudioObject")}  # fmt: skip
_TYPES = {bool: "sc:Boolean", int: "sc:Integer"}
_ABOUT = {
    "id": "The sample.",
    "parents": "The ids of the real samples that it was made from.",
    "variant": "Which child of its parent it is.",
    "generator": "Name and version of the operation.",
    "operation": "The operation with its arguments, as JSON.",
    "params": "What was drawn for this sample, as JSON.",
    "seed": "The seed that it was drawn with.",
    "parent_sha256": "Content of the parent.",
    "sha256": "Content of the sample.",
    "software": "Versions of the libraries that made it.",
    "model_sha256": "Weights of the models that took part.",
    "prompt_sha256": "Prompts that the models were given.",
    "trace": "What came after each hop of a chain, as JSON.",
    "synthetic": "Always true.",
    "text": "The text, caption or transcript.",
    "group": "What the parent belongs to: keep a group in one split.",
    "label": "The class, inherited from the parent.",
    "split": "The split, inherited from the parent.",
}


def croissant(
    recipe: Recipe,
    rows: Sequence[Params],
    *,
    form: Literal["folder", "parquet", "webdataset"],
    files: Mapping[str, str],
    source: str,
) -> Params:
    """Describe a generated set in Croissant 1.1.

    Parameters
    ----------
    recipe : Recipe
        How it was made.
    rows : sequence of dict
        The rows of ``metadata.jsonl``; at least one.
    form : {"folder", "parquet", "webdataset"}
        What the files are.
    files : mapping of str to str
        ``metadata.jsonl`` or the shards, with their sha256.
    source : str
        What to call the real data.

    Returns
    -------
    dict
        JSON-LD.
    """
    name = recipe.name or "synthetic data"
    generators = Counter(row["generator"] for row in rows)
    splits = Counter(row["split"] or "none" for row in rows)
    media = [
        modality
        for modality, (pattern, _, _) in _MEDIA.items()
        if any(str(row.get(c, "")).endswith(pattern[1:]) for row in rows
               for c in ("file_name", "audio_file_name"))
    ]  # fmt: skip
    how = to_json(spec(recipe.operation()))
    # The real set as its generator saw it: the contents that went in, whatever their order.
    seen = sorted({row["parent_sha256"] for row in rows})
    agent = {"@type": "prov:SoftwareAgent", "name": f"evalsuite {version('evalsuite')}"}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name,
        "description": (
            f"SYNTHETIC DATA. {len(rows)} samples made from {source} by evalsuite: "
            f"{', '.join(f'{n} by {g}' for g, n in sorted(generators.items()))}; splits: "
            f"{', '.join(f'{n} {s}' for s, n in sorted(splits.items()))}. Each sample names its "
            "parents, parameters and seed."
        ),
        "keywords": ["synthetic data", *media],
        "rai:dataCollection": (
            f"Generated, not collected: made from {source} by the operations {how}, with the "
            f"recipe's seed {recipe.seed}."
        ),
        "rai:dataLimitations": (
            "Synthetic: it can lack what the real data hold, add what they do not, and carry their "
            "faults and private content. Judge it with `evalsuite gate` before training on it."
        ),
        "prov:wasDerivedFrom": {
            "@type": "prov:Entity",
            "name": source,
            "identifier": f"sha256:{sha256(''.join(seen).encode()).hexdigest()}",
        },
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "name": f"evalsuite generate, recipe {name!r}",
            "description": how,
            "prov:wasAssociatedWith": agent,
        },
        "prov:wasAttributedTo": agent,
        "distribution": _distribution(form, files, media),
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "key": {"@id": "samples/id"},
                "field": _fields(form, rows, media),
            },
            *_media_records(form, media),
        ],
    }


def _distribution(form: str, files: Mapping[str, str], media: Sequence[str]) -> list[Params]:
    kinds = {
        "folder": "application/jsonlines",
        "parquet": "application/x-parquet",
        "webdataset": "application/x-tar",
    }
    found: list[Params] = [
        {
            "@type": "cr:FileObject",
            "@id": file,
            "name": file,
            "contentUrl": file,
            "encodingFormat": kinds[form],
            "sha256": digest,
        }
        for file, digest in files.items()
    ]
    inside = [{"@id": file} for file in files]
    if form == "parquet":
        found.append(_file_set("parquet", "data-*.parquet", kinds[form]))
    if form == "webdataset":
        found.append({**_file_set("facts", "*.json", "application/json"), "containedIn": inside})
    if form != "parquet":
        for modality in media:
            pattern, kind, _ = _MEDIA[modality]
            files_of = _file_set(f"{modality}-files", pattern, kind)
            found.append({**files_of, "containedIn": inside} if form == "webdataset" else files_of)
    return found


def _file_set(name: str, pattern: str, kind: str) -> Params:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "includes": pattern,
        "encodingFormat": kind,
    }


def _fields(form: str, rows: Sequence[Params], media: Sequence[str]) -> list[Params]:
    found: list[Params] = []
    for column, about in _ABOUT.items():
        values = [row[column] for row in rows if row.get(column) is not None]
        if not values:
            continue
        kind: Any = type(values[0])
        field = _field("samples", column, about, _source(form, column), _TYPES.get(kind, "sc:Text"))
        if kind is list:
            field |= {"isArray": True, "arrayShape": "-1"}
        found.append(field)
    if form == "parquet":
        for modality in media:
            source = {
                "fileSet": {"@id": "parquet"},
                "extract": {"column": modality},
                "transform": {"jsonPath": "bytes"},
            }
            found.append(_media_field("samples", modality, source))
    if form == "folder" and media:
        # The name joins a row to its file.
        field = _field("samples", "file_name", "The file.", _source(form, "file_name"))
        name = {"fileSet": {"@id": f"{media[0]}-files"}, "extract": {"fileProperty": "filename"}}
        found.append({**field, "references": name})
        found.append(_media_field("samples", media[0], _content(media[0])))
    return found


def _media_records(form: str, media: Sequence[str]) -> list[Params]:
    """Describe the files that no field of the samples joins to a row."""
    alone = {"folder": media[1:], "parquet": (), "webdataset": media}[form]
    return [
        {
            "@type": "cr:RecordSet",
            "@id": f"{modality}s",
            "name": f"{modality}s",
            "field": [
                _field(
                    f"{modality}s",
                    "file",
                    "The file's name; in a shard, what stands before the dot is the sample's.",
                    {**_content(modality), "extract": {"fileProperty": "filename"}},
                ),
                _media_field(f"{modality}s", modality, _content(modality)),
            ],
        }
        for modality in alone
    ]


def _content(modality: str) -> Params:
    return {"fileSet": {"@id": f"{modality}-files"}, "extract": {"fileProperty": "content"}}


def _field(record: str, name: str, about: str, source: Params, kind: str = "sc:Text") -> Params:
    return {
        "@type": "cr:Field",
        "@id": f"{record}/{name}",
        "name": name,
        "description": about,
        "dataType": kind,
        "source": source,
    }


def _media_field(record: str, modality: str, source: Params) -> Params:
    return _field(record, modality, "The sample itself.", source, _MEDIA[modality][2])


def _source(form: str, column: str) -> Params:
    if form == "folder":
        return {"fileObject": {"@id": "metadata.jsonl"}, "extract": {"column": column}}
    if form == "parquet":
        return {"fileSet": {"@id": "parquet"}, "extract": {"column": column}}
    return {"fileSet": {"@id": "facts"}, "extract": {"jsonPath": f"$.{column}"}}
