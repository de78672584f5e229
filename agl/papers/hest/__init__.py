"""HEST-bench folders: three protocols on the same data, beside the published figures."""
