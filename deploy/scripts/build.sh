# ./dev build: configure when needed, then build.

help_build() {
  cat <<'TEXT'
usage: ./dev build [PRESET] [--target TARGET]... [--jobs N]

Builds into build/PRESET; binaries land in build/PRESET/bin. Presets:
  release   optimised, the default        dev    with debug information
  asan      AddressSanitizer and UBSan    tsan   ThreadSanitizer
  tidy      Clang 19, for lint            fuzz   Clang 19, for the fuzz targets
TEXT
}

configure() {
  local preset=$1 dir=$ROOT/build/$1 torch arrow cuda
  torch=$(torch_root)
  arrow=$(arrow_root)
  cuda=$(cuda_root)
  if [ ! -e "$dir/build.ninja" ] ||
    ! grep -qxF "ROLLCALL_TORCH_ROOT:PATH=$torch" "$dir/CMakeCache.txt" ||
    ! grep -qxF "ROLLCALL_ARROW_ROOT:PATH=$arrow" "$dir/CMakeCache.txt" ||
    ! grep -qxF "ROLLCALL_CUDA_ROOT:PATH=$cuda" "$dir/CMakeCache.txt"; then
    say "Configuring build/$preset"
    cmake --preset "$preset" "-DROLLCALL_TORCH_ROOT=$torch" "-DROLLCALL_ARROW_ROOT=$arrow" \
      "-DROLLCALL_CUDA_ROOT=$cuda" "-DROLLCALL_PYTHON=$VENV/bin/python" >"/tmp/rollcall-configure-$$.log" 2>&1 || {
      cat "/tmp/rollcall-configure-$$.log" >&2
      die "cmake could not configure build/$preset"
    }
    rm -f "/tmp/rollcall-configure-$$.log"
  fi
}

# Checkouts in different folders share what ccache holds.
export CCACHE_BASEDIR=$ROOT CCACHE_NOHASHDIR=1

command_build() {
  local preset=release targets=() jobs=()
  while [ $# -gt 0 ]; do
    case "$1" in
      --target) targets+=("$2"); shift 2 ;;
      --jobs) jobs=(-j "$2"); shift 2 ;;
      -*) die "unknown option '$1'" "./dev build --help" ;;
      *) preset=$1; shift ;;
    esac
  done
  setup_build
  configure "$preset"
  local started=$SECONDS
  ninja -C "$ROOT/build/$preset" "${jobs[@]}" "${targets[@]}" >&2 ||
    die "the build of build/$preset failed" "the compiler's message is above"
  say "Built build/$preset in $((SECONDS - started)) s"
}
