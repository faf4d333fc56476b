# ./dev setup: Debian packages and the PyTorch wheel. Quick when nothing is missing.

help_setup() {
  cat <<'TEXT'
usage: ./dev setup

Installs what is missing and says what it does:
  * Debian or Ubuntu packages by apt-get (as root or through sudo);
  * LibTorch, as the PyTorch wheel in a virtual environment of the project
    (default ~/.cache/rollcall/venv, elsewhere with ROLLCALL_CACHE=DIR): the CPU build where
    there is no NVIDIA GPU and the package index offers it;
  * Arrow and Parquet, as the pyarrow wheel in the same place;
  * nvcc for the CUDA kernels in the same place, where none is installed;
  * the Python libraries that the tests compare against.
Every other command does this first; without anything to do it takes well under a second.
TEXT
}

BUILD_PACKAGES=(
  build-essential cmake ninja-build ccache mold pkg-config git python3 python3-venv
  libgrpc++-dev protobuf-compiler-grpc libprotobuf-dev protobuf-compiler libabsl-dev libspdlog-dev
  prometheus-cpp-dev catch2 libgloo-dev nlohmann-json3-dev libyaml-cpp-dev libpcre2-dev libssl-dev
  libsqlite3-dev libcli11-dev libxxhash-dev libmimalloc-dev libicu-dev libboost-dev)
TEST_PACKAGES=(prometheus)
LINT_PACKAGES=(clang-19 clang-format-19 clang-tidy-19)
FUZZ_PACKAGES=(clang-19 libclang-rt-19-dev)

missing_packages() {
  local installed
  installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
    awk '$2 == "installed" {print $1}')
  for package in "$@"; do
    grep -qxF -- "$package" <<<"$installed" || echo "$package"
  done
}

install_packages() {
  local missing
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  missing=${missing//$'\n'/ }
  command -v apt-get >/dev/null ||
    die "this machine has no apt-get" "install the equivalents of: $missing"
  local root=()
  if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      root=(sudo -n)
    elif command -v sudo >/dev/null && [ -t 0 ]; then
      root=(sudo)
    else
      die "packages are missing and this user may not install them" \
        "ask an administrator for: apt-get install $missing"
    fi
  fi
  say "Installing packages: $missing"
  # RUNLEVEL=1 keeps packaged services (prometheus) from starting.
  local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -q -y
    -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update >&2 || say "apt-get update failed; trying with the lists at hand"
  # shellcheck disable=SC2086
  "${apt[@]}" install --no-install-recommends $missing >&2 ||
    die "apt-get could not install the packages" "by hand: apt-get install $missing"
}

# Installs the requirement sets that are not there yet. A mark file names each set by its hash.
install_python() {
  local set mark
  if [ ! -x "$VENV/bin/python" ]; then
    say "Making a virtual environment in $VENV"
    mkdir -p "$CACHE"
    python3 -m venv "$VENV" || die "python3 -m venv failed" "apt-get install python3-venv"
  fi
  for set in "$@"; do
    mark=$VENV/.rollcall-$(sha256sum <"$ROOT/deploy/$set.txt" | cut -c1-16)
    [ -e "$mark" ] && continue
    say "Installing $(grep -v '^#' "$ROOT/deploy/$set.txt" | tr '\n' ' ')"
    if [ "$set" = requirements ] && ! nvidia-smi -L >/dev/null 2>&1; then
      local torch
      torch=$(grep '^torch==' "$ROOT/deploy/$set.txt")
      "$VENV/bin/python" -m pip install --progress-bar on "$torch+cpu" >&2 ||
        say "The package index has no CPU build of $torch; taking the default build (several GB)"
    fi
    "$VENV/bin/python" -m pip install --progress-bar on -r "$ROOT/deploy/$set.txt" >&2 ||
      die "pip could not install $ROOT/deploy/$set.txt" \
        "check the network and the package index, or set PIP_INDEX_URL"
    touch "$mark"
  done
}

torch_root() { echo "$VENV"/lib/python3*/site-packages/torch; }
# Empty where pyarrow is not installed.
arrow_root() {
  local root
  root=$(echo "$VENV"/lib/python3*/site-packages/pyarrow)
  if [ -d "$root/include/parquet" ]; then echo "$root"; fi
}

# Parquet is optional: without its libraries everything else builds.
install_parquet() {
  (install_python requirements-parquet) ||
    say "Going on without Parquet: this build will read JSONL files only"
}

# Empty where an nvcc is installed, or none could be had.
cuda_root() {
  local root
  has_nvcc && return 0
  root=$(echo "$VENV"/lib/python3*/site-packages/nvidia/cu13)
  if [ -x "$root/bin/nvcc" ]; then echo "$root"; fi
}
has_nvcc() { command -v nvcc >/dev/null || [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]; }

# nvcc is optional: without it everything else builds.
install_cuda() {
  has_nvcc && return 0
  (install_python requirements-cuda) ||
    say "Going on without nvcc: this build will not compile the CUDA kernels"
  local root
  root=$(cuda_root)
  # The wheels call it lib; nvcc looks for lib64.
  if [ -n "$root" ] && [ ! -e "$root/lib64" ]; then ln -s lib "$root/lib64"; fi
}

setup_build() {
  install_packages "${BUILD_PACKAGES[@]}"
  install_python requirements
  install_parquet
  install_cuda
  # Generous enough for every preset; kept if the user has set more.
  export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-10G}
}
setup_test() {
  setup_build
  install_packages "${TEST_PACKAGES[@]}"
  install_python requirements requirements-test
}
setup_lint() { install_packages "${LINT_PACKAGES[@]}"; }
setup_fuzz() { install_packages "${FUZZ_PACKAGES[@]}"; }

command_setup() {
  setup_test
  setup_lint
  setup_fuzz
  say "Ready: LibTorch in $(torch_root)"
}
