"""Label lists."""

from __future__ import annotations

from pathlib import Path

from kadapter.storage.reading import read_json

# TACRED's relations in the original's order (utils_glue.py), which saved heads depend on.
TACRED_LABELS = (
    "per:siblings",
    "per:parents",
    "org:member_of",
    "per:origin",
    "per:alternate_names",
    "per:date_of_death",
    "per:title",
    "org:alternate_names",
    "per:countries_of_residence",
    "org:stateorprovince_of_headquarters",
    "per:city_of_death",
    "per:schools_attended",
    "per:employee_of",
    "org:members",
    "org:dissolved",
    "per:date_of_birth",
    "org:number_of_employees/members",
    "org:founded",
    "org:founded_by",
    "org:political/religious_affiliation",
    "org:website",
    "org:top_members/employees",
    "per:children",
    "per:cities_of_residence",
    "per:cause_of_death",
    "org:shareholders",
    "per:age",
    "per:religion",
    "no_relation",
    "org:parents",
    "org:subsidiaries",
    "per:country_of_birth",
    "per:stateorprovince_of_death",
    "per:city_of_birth",
    "per:stateorprovinces_of_residence",
    "org:country_of_headquarters",
    "per:other_family",
    "per:stateorprovince_of_birth",
    "per:country_of_death",
    "per:charges",
    "org:city_of_headquarters",
    "per:spouse",
)


def read_labels(path: str | Path) -> list[str]:
    """Label names in order from a JSON list, or from `{name: id}` with ids 0, 1, 2, ... (`relations.json`)."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; write the labels there as a JSON list or as {{name: id}}.")
    value = read_json(path, "give a list of labels or {name: id}.")
    if isinstance(value, dict):
        if sorted(value.values(), key=str) != sorted(range(len(value)), key=str):
            raise ValueError(f"{path}: the ids are not 0 to {len(value) - 1}, each once; number the labels anew.")
        value = sorted(value, key=value.__getitem__)
    if not isinstance(value, list) or not value or not all(isinstance(label, str) for label in value):
        raise ValueError(f"{path} holds no labels; give a JSON list of names or {{name: id}}.")
    if len(set(value)) != len(value):
        raise ValueError(f"{path}: the label {next(v for v in value if value.count(v) > 1)!r} stands there twice.")
    return value
