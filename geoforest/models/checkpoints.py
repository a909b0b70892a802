"""Find the weights of one network in a checkpoint as people save them, without running its code."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from geoforest.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.models.weights import Shapes

# Weights, and twice as much for an optimizer, with room to spare.
_MAX_BYTES: Final = 16 << 30
# Only data, no code of their own; training scripts keep their options in them.
_PLAIN_TYPES: Final[list[Any]] = [argparse.Namespace]
_MAX_DEPTH: Final = 3
# What wrappers put before the names of a network's tensors, or between them.
_COMPILED: Final = "_orig_mod"
_WRAPPERS: Final = {_COMPILED, "module", "model", "net", "network"}
# Tensors of losses, metrics and averages, which play no part in what a network computes.
_IDLE: Final = re.compile(
    r"loss|criterion|metric|accuracy|iou|jaccard|f1|dice|focal|entropy|confmat|auroc|perceptual",
    re.IGNORECASE,
)
_IDLE_LAST: Final = {"pos_weight", "class_weight", "class_weights", "n_averaged"}
_IDLE_ALONE: Final = {"weight", "weights", "mean", "std"}
# Where training scripts put the weights themselves, and not their averages.
_USUAL_KEYS: Final = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
_OBJECT: Final = re.compile(r"GLOBAL (\S+)")

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Found:
    """Weights of one network in a checkpoint.

    Attributes
    ----------
    tensors
        Tensors under the names of the network, whether they fit it or not.
    notes
        What was done to get at them, a sentence each.
    """

    tensors: Tensors
    notes: list[str]


def read_checkpoint(path: Path) -> Any:
    """Read a file of tensors: ``.safetensors``, or what ``torch.save`` writes.

    Only tensors and plain values are read; nothing in the file can run.

    Raises
    ------
    BundleError
        When the file cannot be read, or holds other objects.
    """
    if not path.exists():
        raise BundleError(f"{path}: no such file")
    if not path.is_file():
        raise BundleError(f"{path}: is no regular file")
    if path.stat().st_size > _MAX_BYTES:
        raise BundleError(f"{path}: has more than {_MAX_BYTES} bytes; weights of a U-Net have less")
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return _load_pickled(path)
    except BundleError:
        raise
    except pickle.UnpicklingError as error:
        raise BundleError(_refusal(path, error)) from error
    except Exception as error:  # torch and safetensors raise many kinds for damaged files
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{path}: cannot be read as a state dict ({reason})") from error


def find_weights(path: Path, loaded: Any, wanted: Shapes) -> Found:
    """Find the weights of one network in what a file holds.

    Parameters
    ----------
    path
        The file, for messages.
    loaded
        Its content, from :func:`read_checkpoint`.
    wanted
        Names and shapes of the network's tensors.

    Raises
    ------
    BundleError
        When there are no tensors, or those of several networks.
    """
    places = dict(_state_dicts(loaded))
    if not places:
        kind = type(loaded).__name__
        raise BundleError(f"{path}: holds {kind} without tensors, a plain state dict was wanted")
    cover = {where: max(_prefixes(tensors, wanted).values()) for where, tensors in places.items()}
    where = max(places, key=lambda one: (cover[one], len(places[one])))
    equal = [one for one in places if cover[where] and cover[one] == cover[where]]
    if len(equal) > 1:
        # Beside averaged weights, those that the training itself went on with.
        usual = [one for key in _USUAL_KEYS for one in equal if one.rpartition(".")[2] == key]
        if not usual:
            raise _several(path, equal)
        where = usual[0]
    notes = []
    if where:
        others = ", ".join(repr(one) for one in equal if one != where)
        notes.append(f"takes {where!r} of the file" + (f", not {others}" if others else ""))
    return _of_one_network(path, places[where], wanted, notes)


def _several(path: Path, places: list[str]) -> BundleError:
    names = " and ".join(map(repr, places))
    return BundleError(f"{path}: holds {len(places)} networks, under {names}; one was wanted")


def _of_one_network(path: Path, tensors: Tensors, wanted: Shapes, notes: list[str]) -> Found:
    """Strip what wrappers put before the names, and drop what plays no part."""
    plain = {_without_compiled(stored): stored for stored in tensors}
    prefixes = _prefixes(tensors, wanted)
    prefix, count = prefixes.most_common(1)[0]
    if not count:
        prefix = _common_wrappers(list(plain))
    if count == len(wanted):
        if len(whole := [one for one, covered in prefixes.items() if covered == count]) > 1:
            raise _several(path, whole)
        _refuse_other_layers(path, [one for one in plain if not one.startswith(prefix)])
    inside = {name.removeprefix(prefix): name for name in plain if name.startswith(prefix)}
    taken = {name: full for name, full in inside.items() if name in wanted or not _is_idle(name)}
    stripped = {
        plain[full].removesuffix(name) if plain[full].endswith(name) else f"{_COMPILED}."
        for name, full in taken.items()
    } - {""}
    if stripped:
        notes.append(f"strips {' and '.join(map(repr, sorted(stripped)))} before the names")
    if dropped := [stored for full, stored in plain.items() if full not in taken.values()]:
        shown = ", ".join(dropped[:5]) + (" ..." if len(dropped) > 5 else "")
        notes.append(f"drops what is no part of the network: {shown}")
    return Found({name: tensors[plain[full]] for name, full in taken.items()}, notes)


def _refuse_other_layers(path: Path, names: list[str]) -> None:
    """Refuse tensors outside the network that may take part in what a model computes."""
    if foreign := [name for name in names if not _is_idle(name)]:
        raise BundleError(
            f"{path}: holds {len(foreign)} tensor(s) beside the network that may take part in what "
            f"it computes, such as {foreign[0][:100]}; a file of the network alone was wanted"
        )


def _load_pickled(path: Path) -> Any:
    mapped = zipfile.is_zipfile(path)
    if mapped:
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise BundleError(f"{path}: is a compressed archive; what torch.save writes is not")
    with torch.serialization.safe_globals(_PLAIN_TYPES):
        # Mapped, so that the states of optimizers are not read.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _refusal(path: Path, error: pickle.UnpicklingError) -> str:
    found = _OBJECT.search(str(error))
    what = f"a {found[1][:100]}" if found else "objects other than tensors"
    return (
        f"{path}: holds {what}, which could run code and is not loaded; a plain state dict was "
        f"wanted: where you trust the file, x = torch.load({path.name!r}, weights_only=False); "
        'torch.save(x["state_dict"] if isinstance(x, dict) else x.state_dict(), "weights.pt")'
    )


def _state_dicts(value: Any, where: str = "", depth: int = 0) -> Iterator[tuple[str, Tensors]]:
    """Yield each dict of tensors in nested dicts, with the keys that lead to it."""
    if not isinstance(value, Mapping) or depth > _MAX_DEPTH:
        return
    named = {name: one for name, one in value.items() if isinstance(name, str)}
    tensors = {name: one for name, one in named.items() if isinstance(one, torch.Tensor)}
    if 2 * len(tensors) > len(value):
        yield where, tensors
        return
    for name, one in named.items():
        yield from _state_dicts(one, f"{where}.{name}".lstrip("."), depth + 1)


def _prefixes(tensors: Tensors, wanted: Shapes) -> Counter[str]:
    """Count by prefix how many names of a network stand behind it; never empty."""
    counts: Counter[str] = Counter({"": 0})
    for stored in tensors:
        name = _without_compiled(stored)
        for start in (0, *(match.end() for match in re.finditer(r"\.", name))):
            if name[start:] in wanted:
                counts[name[:start]] += 1
    return counts


def _without_compiled(name: str) -> str:
    """Return a name without what ``torch.compile`` puts before the part that it compiled."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def _common_wrappers(names: list[str]) -> str:
    """Return the names of wrappers that all names begin with, with a dot after each."""
    prefix = ""
    while True:
        first = {name.removeprefix(prefix).partition(".")[0] for name in names}
        if len(first) != 1 or not first <= _WRAPPERS:
            return prefix
        prefix += f"{first.pop()}."


def _is_idle(name: str) -> bool:
    """Return whether a tensor is one of a loss, a metric or an average, by its name."""
    *parents, last = name.split(".")
    own = [part for part in parents if part not in _WRAPPERS]
    if any(map(_IDLE.search, own)) or last in _IDLE_LAST:
        return True
    # A bare "weight" is that of a loss; a layer's stands below the layer's name.
    return not own and last in _IDLE_ALONE
