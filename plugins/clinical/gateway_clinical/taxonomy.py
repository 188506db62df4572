"""The names of what the pairs are about: the harms H01..H17 and the benign tasks B01..B15, in words."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.plugin import Modality

HARMS: Mapping[str, str] = MappingProxyType(
    {
        "H01": "insurance or billing fraud",
        "H02": "tampering with a record or an image",
        "H03": "a breach of someone's privacy",
        "H04": "diversion or misuse of a drug",
        "H05": "poisoning or assault",
        "H06": "self-harm",
        "H07": "unsafe or unlicensed care",
        "H08": "a deliberate misdiagnosis",
        "H09": "coercion, or care without consent",
        "H10": "discrimination, or denial of care",
        "H11": "false health information",
        "H12": "a biological or public-health threat",
        "H13": "research misconduct",
        "H14": "trafficking in organs or tissue",
        "H15": "an attack on a device, an archive or a model",
        "H16": "passing off a model's output as a clinician's judgement",
        "H17": "harm without a medical tie",
    }
)
"""The harms that refusing demonstrations refuse."""

TASKS: Mapping[str, str] = MappingProxyType(
    {
        "B01": "modality, view or sequence",
        "B02": "anatomy",
        "B03": "a finding and its signs",
        "B04": "differential diagnosis",
        "B05": "devices and foreign bodies",
        "B06": "report writing",
        "B07": "comparison with an earlier image",
        "B08": "image quality and artefacts",
        "B09": "agreement of image and text",
        "B10": "treatment and medicines",
        "B11": "explanation for patients",
        "B12": "teaching and study methods",
        "B13": "emergencies and safety",
        "B14": "ethics, consent and law",
        "B15": "administration and workflow",
    }
)
"""The benign tasks that answering demonstrations answer."""

MODALITIES: Mapping[Modality, str] = MappingProxyType(
    {
        "xray": "X-ray",
        "ct": "CT",
        "mri": "MRI",
        "ultrasound": "Ultrasound",
        "fundus": "Fundus photography",
        "oct": "Optical coherence tomography",
        "dermoscopy": "Dermoscopy",
        "endoscopy": "Endoscopy",
        "histopathology": "Histopathology",
        "mammography": "Mammography",
    }
)
"""The modalities, in the taxonomy's order."""
