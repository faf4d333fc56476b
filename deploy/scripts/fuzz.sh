# ./dev fuzz: libFuzzer over every decoder of outside data.

help_fuzz() {
  cat <<'TEXT'
usage: ./dev fuzz [NAME...] [--seconds N | --runs N]

Builds the fuzz preset (Clang, AddressSanitizer, UBSan) and runs the named targets of tests/fuzz,
by default all, each for N seconds (30) or N inputs. Seeds are in tests/fuzz/corpus/NAME; what a run
finds new is kept in build/fuzz/corpus. An input that crashes, takes over 10 s or over 1 GiB of
memory ends the run and is kept in build/fuzz/failures.
TEXT
}

command_fuzz() {
  local names=() limit=(-max_total_time=30) name total=0
  while [ $# -gt 0 ]; do
    case "$1" in
      --seconds) limit=("-max_total_time=$2"); shift 2 ;;
      --runs) limit=("-runs=$2"); shift 2 ;;
      -*) die "unknown option '$1'" "./dev fuzz --help" ;;
      *) names+=("$1"); shift ;;
    esac
  done
  setup_fuzz
  command_build fuzz --target all_fuzz
  local bin=$ROOT/build/fuzz/fuzz
  if [ ${#names[@]} = 0 ]; then
    mapfile -t names < <(find "$bin" -name '*_fuzz' -printf '%f\n' | sed 's/_fuzz$//' | sort)
  fi
  mkdir -p "$ROOT/build/fuzz/failures"
  for name in "${names[@]}"; do
    [ -x "$bin/${name}_fuzz" ] || die "there is no fuzz target '$name'" "tests/fuzz/CMakeLists.txt lists them"
    local work=$ROOT/build/fuzz/corpus/$name log=$ROOT/build/fuzz/$name.log
    mkdir -p "$work"
    local arguments=("${limit[@]}" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=512 -max_len=16384
      -print_final_stats=1 "-artifact_prefix=$ROOT/build/fuzz/failures/$name-" "$work")
    [ ! -d "tests/fuzz/corpus/$name" ] || arguments+=("tests/fuzz/corpus/$name")
    [ ! -e "tests/fuzz/$name.dict" ] || arguments=("-dict=tests/fuzz/$name.dict" "${arguments[@]}")
    "$bin/${name}_fuzz" "${arguments[@]}" >"$log" 2>&1 || {
      tail -40 "$log" >&2
      die "fuzz target '$name' failed" "the input is in build/fuzz/failures, the whole log in build/fuzz/$name.log"
    }
    local runs
    runs=$(awk '/stat::number_of_executed_units/ {print $2}' "$log")
    total=$((total + runs))
    say "$name: $runs inputs, nothing found"
  done
  say "$total inputs over ${#names[@]} targets"
}
