"""What cannot be imported here is not looked through for examples."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("triton") else ["strank/losses/triton_*.py"]  # it comes with torch for CUDA
