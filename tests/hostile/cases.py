"""All hostile inputs, room by room."""

from __future__ import annotations

from tests.hostile import (
    of_components,
    of_configs,
    of_features,
    of_folders,
    of_lists,
    of_names,
    of_paths,
    of_prepare,
    of_runs,
    of_sections,
    of_studies,
    of_yaml,
)
from tests.hostile.stage import Case

ROOMS = (
    of_yaml, of_configs, of_components, of_names, of_paths, of_sections, of_features, of_lists, of_folders, of_runs,
    of_studies, of_prepare,
)  # fmt: skip
CASES: list[Case] = [case for room in ROOMS for case in room.cases()]
