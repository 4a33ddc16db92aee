"""What the user wants merged, and making it: requests, saved plans, profiles."""

from pipeline.merging.plan_file import read_plan, write_plan
from pipeline.merging.profile_file import Profile, read_profile
from pipeline.merging.request import EXACT_MERGES, MergeRequest, merge_network
from pipeline.merging.verified import MergedNetwork, merge_verified, original_in

__all__ = [
    "EXACT_MERGES",
    "MergeRequest",
    "MergedNetwork",
    "Profile",
    "merge_network",
    "merge_verified",
    "original_in",
    "read_plan",
    "read_profile",
    "write_plan",
]
