"""Small DICOM files and images, FHIR bundles, and the reader of live requests as the judge of lines."""

import asyncio
import base64
import io
import json

import numpy as np
from click.testing import CliRunner
from dicom_kit import with_pixels, written
from PIL import Image as Pillow
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from gateway.cli.batch_intake import intake
from gateway.errors import GatewayError
from gateway.images import Limits
from gateway.records import NOTHING_SAID
from gateway.wire.chat import PATH, chat_request
from gateway.wire.decode import Decoder
from gateway.wire.said import said_of_line
from gateway.wire.strict import read_object

PATIENT, NAME = "MRN-0012345", "Doe^Jane Marker"
RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16) * 16


def dataset(pixels=RAMP, *, study="1.2.3", series="1.2.3.4", number=1, modality="CT", **tags):
    data = Dataset()
    data.SOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID = f"{series}.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = study, series
    data.InstanceNumber, data.SeriesNumber = number, 1
    data.Modality = modality
    data.PatientID, data.PatientName, data.PatientBirthDate = PATIENT, NAME, "19700102"
    data.ReferringPhysicianName = "Roe^Richard Marker"
    data.StudyDate = "20260102"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    return with_pixels(data, pixels, tags)


def dicom(*args, syntax=ExplicitVRLittleEndian, **tags):
    return written(dataset(*args, **tags), syntax)


def png(width=8, height=8, value=128):
    out = io.BytesIO()
    Pillow.new("L", (width, height), value).save(out, "PNG")
    return out.getvalue()


def reader(data):
    """Read a line as the gateway does; give its object, its request and its context."""
    line = read_object(data)
    assert set(line) <= {"custom_id", "method", "url", "body", "context"}
    assert (line["method"], line["url"]) == ("POST", PATH)
    assert 1 <= len(line["custom_id"]) <= 512
    request, _ = asyncio.run(chat_request(line["body"], Decoder(Limits()), "radiology", (line["body"]["model"],)))
    return line, request, said_of_line(NOTHING_SAID, line.get("context"))


def sent(line):
    """Give the bytes of each image in a line's object."""
    parts = line["body"]["messages"][0]["content"]
    return [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in parts[1:]]


def run(*words, code=0):
    """Run the command; give what it printed on standard output and on standard error."""
    result = CliRunner().invoke(intake, [str(word) for word in words])
    told = result.stdout + result.stderr + repr(result.exception)
    assert result.exit_code == code, told
    assert result.exception is None or isinstance(result.exception, SystemExit | GatewayError), told
    return result.stdout, result.stderr


def bundle(*resources, **more):
    entries = [one if "resource" in one else {"resource": one} for one in resources]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries} | more


def patient(own="p1", value=PATIENT, **more):
    identifier = {"system": "urn:oid:1.2.36", "value": value}
    return {"resourceType": "Patient", "id": own, "identifier": [identifier]} | more


def request(own="r1", *supporting, **more):
    made = {
        "resourceType": "ServiceRequest",
        "id": own,
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "code": {"text": "Chest radiograph"},
        "supportingInfo": [{"reference": one} if isinstance(one, str) else one for one in supporting],
    }
    return {name: value for name, value in (made | more).items() if value is not None}


def binary(own="b1", raw=None, media="image/png"):
    data = base64.b64encode(png() if raw is None else raw).decode()
    return {"resourceType": "Binary", "id": own, "contentType": media, "data": data}


def save(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path
