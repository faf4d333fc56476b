# ./dev bench: benchmarks. Each prints a table, or with --json one JSON object.

help_bench() {
  cat <<'TEXT'
usage: ./dev bench NAME [--json]

  startup         `rollcall up` and submit, to the first optimizer step of a tiny model
  control-plane   1,000 simulated workers against one coordinator
  migration       pause of a sequence that moves between workers, by its length
  tokenizer       encoding and decoding beside the `tokenizers` library, one thread each

--json prints one object: {"bench", "machine", "rows": [{"case", "figure", "unit", "value",
"peer", "peer_value", "ratio"}]}; peer fields only where there is a yardstick, ratio is ours over
theirs, greater is better.
TEXT
}

command_bench() {
  local name=${1:-}
  [ -n "$name" ] || { help_bench >&2; die "name a benchmark"; }
  shift
  case "$name" in
    startup)
      command_build release
      exec python3 "$SCRIPTS/bench_startup.py" --bin "$ROOT/build/release/bin" "$@" ;;
    control-plane)
      command_build release --target control_plane_bench
      exec "$ROOT/build/release/bin/control_plane_bench" "$@" ;;
    migration)
      command_build release --target rollout_migration_test
      exec "$ROOT/build/release/tests/rollout_migration_test" "[.bench]" ;;
    tokenizer)
      setup_test
      command_build release --target tokenizer_bench
      exec "$VENV/bin/python" "$SCRIPTS/bench_tokenizer.py" --bin "$ROOT/build/release/bin" "$@" ;;
    *) help_bench >&2; die "unknown benchmark '$name'" ;;
  esac
}
