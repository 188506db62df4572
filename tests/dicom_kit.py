"""Small DICOM files for tests."""

import io

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage


def with_pixels(data, pixels, tags):
    """Give `data` the depth and the bytes of `pixels`, then `tags`; one that is None is taken away."""
    data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for keyword, value in tags.items():
        if value is None:
            del data[keyword]
        else:
            setattr(data, keyword, value)
    return data


def written(data, syntax=ExplicitVRLittleEndian):
    """Write a data set as a file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = data.get("SOPClassUID", SecondaryCaptureImageStorage)
    meta.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID", "1.2.3")
    data.file_meta = meta
    if "PixelData" in data:
        data["PixelData"].VR = "OB" if syntax.is_encapsulated else "OW"
    out = io.BytesIO()
    pydicom.dcmwrite(out, data, enforce_file_format=True, little_endian=None)
    return out.getvalue()
