"""A bundle of ServiceRequests becomes lines: what is asked, of whom, with which images; and bundles that mean harm.

Over 300 lines, because all of it needs the same few makers of bundles.
"""

import base64
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intake.kit import PATIENT, RAMP, binary, bundle, dicom, patient, png, reader, request, save, sent

from gateway.errors import ConfigurationError
from gateway.intake.fhir import lines, requests
from gateway.intake.fhir_bundle import Bundle
from gateway.intake.line import Line, Options, Problem, Skipped
from gateway.intake.places import Root

ACSN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}


def made(tmp_path, content, root=None, lead="", **options):
    opened = Bundle(save(tmp_path / "bundle.json", content))
    where = None if root is None else Root(root)
    return list(lines(opened, requests(opened), where, lead, Options(**options)))


def only(tmp_path, *resources, **more):
    (found,) = made(tmp_path, bundle(patient(), *resources), **more)
    return found


def why(tmp_path, *resources, **more):
    found = only(tmp_path, *resources, **more)
    assert isinstance(found, Problem), found
    return found.why


def test_a_request_becomes_a_line(tmp_path):
    asked = request(
        "r1",
        "Binary/b1",
        identifier=[{"value": "ORD-1"}, {"type": ACSN, "value": "ACC-9"}],
        reasonCode=[{"text": "Fever"}, {"coding": [{"display": "Cough"}]}],
        note=[{"text": "Is there a pneumothorax?"}],
        priority="urgent",
        code={"coding": [{"system": "http://loinc.org", "code": "36643-5", "display": "XR Chest 2 Views"}]},
    )
    found = only(tmp_path, binary(), asked, lead="Answer from the image.", task="report-draft")
    line, got, said = reader(found.data)
    assert line["custom_id"] == "request-r1"
    asked_text = got.turns[0].parts[0].text
    assert asked_text.splitlines() == [
        "Answer from the image.",
        "XR Chest 2 Views",
        "Reason: Fever; Cough",
        "Is there a pneumothorax?",
    ]
    assert (said.patient, said.study, said.task) == (f"urn:oid:1.2.36|{PATIENT}", "ACC-9", "report-draft")
    assert sent(line) == [png()]
    assert line["body"]["metadata"] == {
        "source": "fhir",
        "based_on": "ServiceRequest/r1",
        "accession": "ACC-9",
        "patient_issuer": "urn:oid:1.2.36",
        "report_code": "36643-5",
        "report_display": "XR Chest 2 Views",
        "priority": "urgent",
    }
    assert only(tmp_path, binary(), asked, bare_patient=True).context["patient"] == PATIENT


def test_the_shape_of_r5_is_read_as_well(tmp_path):
    asked = request(
        "r1",
        {"reference": {"reference": "Binary/b1"}},
        {"concept": {"text": "smoker"}},
        code={"concept": {"text": "Chest radiograph"}},
        reason=[{"concept": {"text": "Fever"}}, {"reference": {"reference": "Condition/1"}}],
    )
    found = only(tmp_path, binary(), asked)
    assert found.question == "Chest radiograph\nReason: Fever"
    assert len(found.images) == 1


def test_the_most_urgent_come_first_and_only_active_ones(tmp_path):
    wanted = [("a", None), ("b", "routine"), ("c", "stat"), ("d", "asap"), ("e", "stat"), ("f", "soon")]
    asked = [request(own, "Binary/b1", priority=priority) for own, priority in wanted]
    asked += [request("x", "Binary/b1", status="revoked"), request("y", "Binary/b1", doNotPerform=True)]
    found = made(tmp_path, bundle(patient(), binary(), *asked))
    done = [one.custom_id for one in found if isinstance(one, Line)]
    assert done == [f"request-{own}" for own in "cedabf"]
    assert [one.why for one in found if isinstance(one, Skipped)] == [
        "its status is `revoked` and not `active`",
        "it asks that something is not done",
    ]


@pytest.mark.parametrize(
    "image",
    [
        {"resourceType": "Media", "status": "completed", "content": {"contentType": "image/png", "url": "Binary/b1"}},
        {"resourceType": "Media", "status": "completed", "content": {"data": base64.b64encode(png()).decode()}},
        {"resourceType": "DocumentReference", "content": [{"attachment": {"url": "scans/a%20b.png"}}]},
        {"resourceType": "DocumentReference", "content": [{"attachment": {"url": "Binary/b1"}}]},
        {"resourceType": "DocumentReference", "content": [{"attachment": {"url": "urn:uuid:77"}}]},
        {
            "resourceType": "DocumentReference",
            "contained": [binary("in")],
            "content": [{"attachment": {"url": "#in", "contentType": "image/png"}}],
        },
    ],
)
def test_where_an_image_may_be(tmp_path, image):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a b.png").write_bytes(png())
    kind = image["resourceType"]
    apart = {"fullUrl": "urn:uuid:77", "resource": binary("b2")}
    found = only(tmp_path, binary(), apart, image | {"id": "i"}, request("r", f"{kind}/i"), root=tmp_path)
    assert isinstance(found, Line), found
    assert sent(json.loads(found.data)) == [png()]


def test_references_go_by_full_url_then_by_base_then_by_id(tmp_path):
    entries = [
        {"fullUrl": "http://a/fhir/Binary/b", "resource": binary("b", png(value=1))},
        {"fullUrl": "http://c/fhir/Binary/b", "resource": binary("b", png(value=2))},
        {"fullUrl": "urn:uuid:1", "resource": binary("x", png(value=3))},
    ]
    asked = request("r", "Binary/b", "http://a/fhir/Binary/b", "urn:uuid:1", "Binary/x/_history/4")
    asked = {"fullUrl": "http://c/fhir/ServiceRequest/r", "resource": asked}
    found = only(tmp_path, *entries, asked)
    values = [decoded(image) for image in sent(json.loads(found.data))]
    assert values == [2, 1, 3, 3]
    assert "fits two entries" in why(tmp_path, *entries, request("r", "Binary/b"))


def decoded(raw):
    import io

    from PIL import Image as Pillow

    return Pillow.open(io.BytesIO(raw)).getpixel((0, 0))


def test_a_file_named_by_the_request_itself(tmp_path):
    (tmp_path / "scan.dcm").write_bytes(dicom())
    found = only(tmp_path, request("r", "scan.dcm"), root=tmp_path)
    assert found.images[0].modality == "ct"


def study(**more):
    made = {
        "resourceType": "ImagingStudy",
        "id": "s1",
        "status": "available",
        "subject": {"reference": "Patient/p1"},
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}],
    }
    return made | more


def test_an_imaging_study_is_found_below_the_root(tmp_path):
    for number in range(1, 6):
        (tmp_path / f"{number}").write_bytes(dicom(RAMP + number, number=number, PatientID="ELSE"))
        (tmp_path / f"m{number}").write_bytes(dicom(RAMP, number=number, series="1.2.3.9", modality="MR"))
    found = only(tmp_path, study(), request("r", "ImagingStudy/s1"), root=tmp_path)
    assert [one.modality for one in found.images] == ["ct", "mri"]
    assert found.context["study"] == "1.2.3"
    assert any("another patient's number" in note for note in found.notes)
    wanted = [{"uid": "1.2.3.4", "instance": [{"uid": "1.2.3.4.2"}]}]
    numbered = study(series=wanted, identifier=[*study()["identifier"], {"type": ACSN, "value": "ACC"}])
    found = only(tmp_path, numbered, request("r", "ImagingStudy/s1"), root=tmp_path, pixels_only=True)
    assert found.context["study"] == "ACC"
    assert json.loads(found.data)["body"]["metadata"]["modality"] == "CT"
    logical = {"type": "ImagingStudy", "identifier": study()["identifier"][0]}
    assert len(only(tmp_path, request("r", logical), root=tmp_path, images=3).images) == 6
    for series, told in (("1.2.99", "series"), ("1.2.3.4", "no image that its ImagingStudy lists")):
        gone = study(series=[{"uid": series, "instance": [{"uid": "1.9"}]}])
        assert told in why(tmp_path, gone, request("r", "ImagingStudy/s1"), root=tmp_path)
    assert "--images-root" in why(tmp_path, study(), request("r", "ImagingStudy/s1"))
    assert "urn:dicom:uid" in why(tmp_path, study(identifier=[]), request("r", "ImagingStudy/s1"), root=tmp_path)


def test_what_is_no_image_is_left_out_and_told(tmp_path):
    pdf = {
        "resourceType": "DocumentReference",
        "id": "d",
        "content": [{"attachment": {"contentType": "application/pdf"}}],
    }
    condition = {"resourceType": "Condition", "id": "c"}
    asked = request("r", "Binary/b1", "DocumentReference/d", "Condition/c")
    found = only(tmp_path, binary(), pdf, condition, asked)
    assert len(found.images) == 1
    assert [note.split()[2].strip("`,") for note in found.notes] == ["DocumentReference/d", "Condition/c"]
    assert "names no image" in why(tmp_path, condition, request("r", "Condition/c"))


@pytest.mark.parametrize(
    ("supporting", "told"),
    [
        ("Binary/nowhere", "no --images-root"),
        ("https://pacs.example/Binary/1", "nothing is fetched"),
        ("file:///etc/passwd", "nothing is fetched"),
        ("data:image/png;base64,AAAA", "nothing is fetched"),
        ("ServiceRequest/r", "names no image"),
        ("#inside", "is not in the bundle"),
        ({"display": "the scan"}, "names nothing"),
        ({"identifier": {"value": "7"}}, "names nothing"),
        ("DocumentReference/circle", "expected a Binary"),
        ("DocumentReference/empty", "neither data nor an address"),
        ("DocumentReference/far", "nothing is fetched"),
        ("Binary/words", "no image that is known"),
        ("Binary/code", "no base64"),
        ("Binary/itself", "neither data nor an address"),
    ],
)
def test_a_reference_that_leads_nowhere_is_that_lines_problem(tmp_path, supporting, told):
    def document(own, **attachment):
        return {"resourceType": "DocumentReference", "id": own, "content": [{"attachment": attachment}]}

    others = [
        document("circle", url="DocumentReference/circle"),
        document("empty"),
        document("far", url="http://pacs.example/wado?x=1"),
        binary("words", b"words words"),
        binary("code") | {"data": "%%%%"},
        {"resourceType": "Binary", "id": "itself", "contentType": "image/png", "url": "Binary/itself"},
    ]
    content = bundle(patient(), binary(), *others, request("r", supporting), request("good", "Binary/b1"))
    bad, good = made(tmp_path, content)
    assert told in bad.why
    assert "`ServiceRequest/r`" in bad.where
    assert good.custom_id == "request-good"


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "%2e%2e/secret.png", "/etc/passwd", "a/../../secret.png", "out.png", "folder/secret.png", "dir",
     "pipe", "a\\b", "a%00b", "gone.png", ".", ""],
)  # fmt: skip
def test_no_file_outside_the_root_is_read(tmp_path, name):
    import os

    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(png())
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    document = {"resourceType": "DocumentReference", "id": "d", "content": [{"attachment": {"url": name}}]}
    found = only(tmp_path, document, request("r", "DocumentReference/d"), root=root)
    assert isinstance(found, Problem)
    assert str(tmp_path) not in found.why


def test_a_link_inside_the_root_is_followed(tmp_path):
    (tmp_path / "real.png").write_bytes(png())
    (tmp_path / "link.png").symlink_to("real.png")
    assert len(only(tmp_path, request("r", "link.png"), root=tmp_path).images) == 1


def test_whose_the_request_is(tmp_path):
    def numbers(*identifiers):
        return {"resourceType": "Patient", "id": "p2", "identifier": list(identifiers)}

    mr = {"coding": [{"code": "MR"}]}
    old, temp = {"use": "old", "value": "1"}, {"use": "temp", "value": "2"}
    plain, official = {"value": "3"}, {"use": "official", "value": "4", "assigner": {"display": "City"}}
    record = {"type": mr, "value": "5"}
    for given_numbers, expected in (
        ((old, temp), "2"),
        ((temp, plain), "3"),
        ((plain, official), "City|4"),
        ((official, record), "5"),
    ):
        asked = request("r", "Binary/b1", subject={"reference": "Patient/p2"})
        assert only(tmp_path, binary(), numbers(*given_numbers), asked).context["patient"] == expected
    asked = request("r", "Binary/b1", subject={"identifier": {"value": "9"}})
    assert only(tmp_path, binary(), asked).context["patient"] == "9"
    asked = request("r", "Binary/b1", subject={"reference": "https://a/Patient/1", "identifier": {"value": "9"}})
    assert only(tmp_path, binary(), asked).context["patient"] == "9"
    group = {"resourceType": "Group", "id": "g"}
    asked = request("r", "Binary/b1", subject={"reference": "Group/g"})
    assert "patient" not in only(tmp_path, binary(), group, asked).context
    for subject, told in (
        (None, "names no patient"),
        ({"reference": "Patient/none"}, "is not in the bundle"),
        ({"reference": "https://a/Patient/1"}, "nothing is fetched"),
        ({"reference": "Patient/p2"}, "no identifier"),
        ({"identifier": {"value": "x" * 300}}, "context.patient"),
        ({"identifier": {"value": "Мария"}}, "context.patient"),
    ):
        asked = request("r", "Binary/b1", subject=subject)
        assert told in why(tmp_path, binary(), numbers(old), asked)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"code": None}, "nothing is asked"),
        ({"id": None}, "it has no id"),
        ({"id": "a/b"}, "it has no id"),
        ({"modifierExtension": [{"url": "http://a"}]}, "may change what it means"),
        ({"implicitRules": "http://a"}, "may change what it means"),
        ({"code": {"text": "x" * 1_000_001}}, "characters of text"),
        ({"supportingInfo": [{"reference": "Binary/b1"}] * 17}, "more than 16 images"),
        ({"supportingInfo": "Binary/b1"}, "names no image"),
        ({"supportingInfo": None}, "names no image"),
    ],
)
def test_other_problems_of_a_request(tmp_path, change, told):
    assert told in why(tmp_path, binary(), request("r", "Binary/b1", **change))


def test_a_request_sent_twice_is_taken_once(tmp_path):
    first, second = made(tmp_path, bundle(patient(), binary(), *[request("r", "Binary/b1")] * 2))
    assert isinstance(first, Line)
    assert "that of entry 2" in second.why


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[]", "no FHIR bundle"),
        ('{"resourceType": "Patient"}', "no FHIR bundle"),
        ('{"resourceType": "Bundle", "entry": {}}', "no FHIR bundle"),
        ('{"resourceType": "Bundle", "a": ' + "[" * 100_000, "no FHIR bundle|nested too deeply"),
        ('{"resourceType": "Bundle", "entry": [{"resource": ' + '{"a":' * 100_000, "no FHIR bundle|nested too deeply"),
    ],
)
def test_what_is_no_bundle_stops(tmp_path, text, told):
    with pytest.raises(ConfigurationError, match=told):
        Bundle(save(tmp_path / "b.json", text))


def test_a_deep_resource_is_never_a_crash(tmp_path):
    for depth in (10, 300, 900, 5_000, 100_000):
        deep = (
            '{"resourceType":"ServiceRequest","id":"d","status":"active","extension":' + "[" * depth + "]" * depth + "}"
        )
        good = json.dumps(request("r", "Binary/b1"))
        rest = ",".join(f'{{"resource":{one}}}' for one in (json.dumps(patient()), json.dumps(binary()), good, deep))
        text = f'{{"resourceType":"Bundle","entry":[{rest}]}}'
        if depth > 1_000:
            with pytest.raises(ConfigurationError, match="nested too deeply"):
                made(tmp_path, text)
            continue
        found = made(tmp_path, text)
        assert [one.custom_id for one in found if isinstance(one, Line)] == ["request-r"]
        assert "names no patient" in next(one.why for one in found if isinstance(one, Problem))


def test_a_bundle_of_many_requests_takes_little_more_memory_than_its_text(tmp_path):
    image = binary("b1", png(200, 200))
    asked = [request(f"r{k}", "Binary/b1", note=[{"text": "n" * 20_000}]) for k in range(200)]
    path = save(tmp_path / "b.json", bundle(patient(), image, *asked))
    size = path.stat().st_size
    tracemalloc.start()
    opened = Bundle(path)
    for found in lines(opened, requests(opened), None, "", Options()):
        assert isinstance(found, Line)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * size + (2 << 20)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.sampled_from(["Patient/p1", "Binary/b1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["reference", "identifier", "value", "text", "coding", "concept", "display", "code", "url", "attachment"]
    ), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["code", "note", "reasonCode", "subject", "supportingInfo", "identifier", "priority", "status"]
        ),
        JSON,
        max_size=4,
    ),
    st.dictionaries(st.sampled_from(["content", "contained", "identifier", "id"]), JSON, max_size=3),
)
def test_whatever_stands_in_a_request_nothing_breaks(tmp_path_factory, change, other):
    folder = tmp_path_factory.getbasetemp()
    document = {"resourceType": "DocumentReference", "id": "d"} | other
    asked = request("r", "Binary/b1", "DocumentReference/d") | change
    found = made(folder, bundle(patient(), binary(), document, asked))
    assert len(found) == 1
    if isinstance(found[0], Line):
        reader(found[0].data)
