"""Words for the slots of the templates. A slot keeps its value within a pair, so that twins share their words."""

from __future__ import annotations

from random import Random

MODALITIES: dict[str, dict[str, tuple[str, ...]]] = {
    "xray": {
        "scan": ("X-ray", "chest X-ray", "CXR", "hand X-ray", "radiograph", "hip radiograph", "knee film"),
        "part": ("left lung", "right hip", "wrist", "ribs", "cervical spine", "heart", "collarbone"),
        "finding": ("a rib fracture", "pneumothorax", "pleural effusion", "a displaced fracture", "consolidation"),
    },
    "ct": {
        "scan": ("CT scan", "CT", "head CT", "abdominal CT", "CT angiogram", "chest CT", "CAT scan"),
        "part": ("liver", "pancreas", "right kidney", "aorta", "skull base", "spleen", "bowel"),
        "finding": ("a liver lesion", "a subdural haematoma", "pulmonary embolism", "appendicitis", "a kidney stone"),
    },
    "mri": {
        "scan": ("MRI", "brain MRI", "MR image", "spine MRI", "knee MRI", "MRI scan", "cardiac MR"),
        "part": ("frontal lobe", "spinal cord", "meniscus", "hippocampus", "lumbar discs", "brainstem"),
        "finding": ("a glioma", "a herniated disc", "multiple sclerosis plaques", "a meniscal tear", "an infarct"),
    },
    "ultrasound": {
        "scan": ("ultrasound", "sonogram", "ultrasound image", "echocardiogram", "obstetric ultrasound", "US scan"),
        "part": ("gallbladder", "thyroid", "left ovary", "mitral valve", "fetal heart", "bladder"),
        "finding": ("gallstones", "a thyroid nodule", "an ovarian cyst", "a pericardial effusion", "a deep vein clot"),
    },
    "fundus": {
        "scan": ("fundus photograph", "retinal image", "fundus photo", "retinal photograph", "eye fundus image"),
        "part": ("macula", "optic disc", "retina", "fovea", "retinal vessels"),
        "finding": ("diabetic retinopathy", "papilloedema", "macular degeneration", "glaucoma cupping", "drusen"),
    },
    "oct": {
        "scan": ("OCT scan", "OCT", "optical coherence tomogram", "macular OCT", "OCT image"),
        "part": ("retinal layers", "fovea", "choroid", "nerve fibre layer", "macula"),
        "finding": ("macular oedema", "an epiretinal membrane", "a macular hole", "subretinal fluid"),
    },
    "dermoscopy": {
        "scan": ("dermoscopy image", "dermatoscopic photo", "skin lesion photo", "mole picture", "dermoscopic image"),
        "part": ("back", "left forearm", "scalp", "lesion's border", "nail bed"),
        "finding": ("melanoma", "a basal cell carcinoma", "a dysplastic naevus", "an atypical network"),
    },
    "endoscopy": {
        "scan": ("endoscopy image", "colonoscopy image", "gastroscopy picture", "endoscopic frame", "capsule study"),
        "part": ("sigmoid colon", "stomach", "oesophagus", "duodenum", "caecum"),
        "finding": ("a polyp", "a gastric ulcer", "varices", "colitis", "Barrett's oesophagus"),
    },
    "histopathology": {
        "scan": ("histology slide", "biopsy slide", "H&E slide", "pathology image", "whole-slide image"),
        "part": ("prostate core", "lymph node", "breast tissue", "colon mucosa", "resection margin"),
        "finding": ("invasive carcinoma", "high-grade dysplasia", "lymphoma", "granulomas", "necrosis"),
    },
    "mammography": {
        "scan": ("mammogram", "mammography image", "screening mammogram", "breast tomosynthesis", "breast image"),
        "part": ("left breast", "axilla", "upper outer quadrant", "nipple", "breast parenchyma"),
        "finding": ("a spiculated mass", "microcalcifications", "breast cancer", "an asymmetry", "a fibroadenoma"),
    },
}

NAMES = {
    "xray": "radiography", "ct": "CT", "mri": "MRI", "ultrasound": "ultrasound", "fundus": "fundus", "oct": "OCT",
    "dermoscopy": "dermoscopy", "endoscopy": "endoscopy", "histopathology": "pathology", "mammography": "mammography",
}  # fmt: skip

COMMON: dict[str, tuple[str, ...]] = {
    "drug": (
        "oxycodone", "fentanyl", "morphine", "hydromorphone", "ketamine", "alprazolam", "diazepam", "Adderall",
        "codeine",
        "tramadol", "methadone", "propofol", "OxyContin", "Xanax", "methylphenidate", "pregabalin", "opioids",
    ),
    "drug2": ("testosterone", "growth hormone", "anabolic steroids", "erythropoietin", "thyroid hormone"),
    "med": (
        "insulin", "digoxin", "paracetamol", "acetaminophen", "warfarin", "metformin", "amitriptyline",
        "potassium chloride",
        "lithium", "propranolol", "verapamil", "aspirin", "heparin", "colchicine", "methotrexate", "ibuprofen",
        "Tylenol",
    ),
    "poison": (
        "cyanide", "arsenic", "antifreeze", "rat poison", "thallium", "ricin", "paraquat", "methanol",
        "carbon monoxide",
        "organophosphates", "bleach", "polonium", "strychnine",
    ),
    "germ": (
        "anthrax", "tuberculosis", "smallpox", "bird flu", "measles", "COVID", "plague", "Ebola", "botulinum", "MRSA",
        "cholera", "influenza",
    ),
    "procedure": (
        "surgery", "a biopsy", "a lumbar puncture", "a colonoscopy", "a hysterectomy", "liposuction", "a chest drain",
        "electroconvulsive therapy", "a bone marrow sample", "an angiogram", "a caesarean", "an amputation",
    ),
    "who": (
        "my husband", "my wife", "an old patient", "my neighbour", "a coworker", "my grandmother", "the baby",
        "a patient",
        "my stepfather", "a rival", "my roommate", "an inmate",
    ),
    "who2": ("my brother", "a friend", "my son", "a customer", "my mother", "a child", "a patient"),
}  # fmt: skip


def seeded(seed: int) -> Random:
    """Give a generator that makes the same choices whenever it has the same seed."""
    return Random(seed)  # noqa: S311 - the choices must be repeatable, and guard nothing


class Slots:
    """The values of one pair: chosen when first asked for, then kept."""

    def __init__(self, rng: Random, modality: str) -> None:
        self._rng = rng
        self._values: dict[str, str] = {"modality": NAMES[modality]}
        self._own = MODALITIES[modality]

    def __getitem__(self, name: str) -> str:
        if name not in self._values:
            self._values[name] = self._rng.choice(self._own.get(name) or COMMON[name])
        return self._values[name]
