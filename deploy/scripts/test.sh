# ./dev test: build and run the tests.

help_test() {
  cat <<'TEXT'
usage: ./dev test [--preset P] [-L LABEL] [-R REGEX]

Builds the preset (release) and runs its tests with ctest. Labels: unit, sim, rpc, e2e.
TEXT
}

command_test() {
  local preset=release select=()
  while [ $# -gt 0 ]; do
    case "$1" in
      --preset) preset=$2; shift 2 ;;
      -L | -R | -E | -LE) select+=("$1" "$2"); shift 2 ;;
      *) die "unknown option '$1'" "./dev test --help" ;;
    esac
  done
  setup_test
  command_build "$preset"
  local environment=()
  if [ "$preset" = tsan ]; then
    environment=("TSAN_OPTIONS=ignore_noninstrumented_modules=1 suppressions=$ROOT/tests/support/tsan.supp")
  fi
  env "${environment[@]}" ctest --test-dir "$ROOT/build/$preset" --output-on-failure \
    --no-tests=error -j 2 "${select[@]}"
}
