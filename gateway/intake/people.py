"""Take the patient and the names of people out of a DICOM file, and leave the rest of it as it is."""

from __future__ import annotations

import io

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

_PATIENT = 0x0010  # the group of the patient's name, numbers, birth date and history


def _names_people(data: Dataset, tag: BaseTag) -> bool:
    if tag.group == _PATIENT:
        return True
    kind = data.get_item(tag, keep_deferred=True).VR
    if kind in (None, "UN") and not tag.is_private:
        try:
            kind = dictionary_VR(tag)
        except KeyError:
            return False
    return bool(kind == "PN")


def without_people(raw: bytes) -> bytes | None:
    """Give the file without the group of the patient and without names of people; None where it can not be written.

    Only the data set itself is looked through, not its sequences. `raw` must have been decoded before, which bounds
    what it can cost: see `gateway.images`.
    """
    try:
        data = pydicom.dcmread(io.BytesIO(raw))
        for tag in list(data.keys()):
            if _names_people(data, tag):
                del data[tag]
        out = io.BytesIO()
        pydicom.dcmwrite(out, data)
    except Exception:  # noqa: BLE001 -- pydicom raises what it likes on odd files, and its messages quote them
        return None
    return out.getvalue()
