"""Clinical intake: studies in DICOM, requests in FHIR and tables in CSV become lines of a batch, and answers reports.

Each reader (`dicom`, `fhir`, `table`) gives its lines one at a time, so that memory stays flat, and beside them what
made none: `Problem` is an input that should have made a line, `Skipped` one that is not meant to. `report` writes the
answers as FHIR DiagnosticReports. Nothing here asks a server or fetches an address.
"""
