# ./dev demo: from nothing to a policy that visibly learned.

help_demo() {
  cat <<'TEXT'
usage: ./dev demo [--json FILE] [--dir DIR]

Builds, starts a local cluster (coordinator, 2 rollout workers, reward server, 2 learner ranks),
makes a tiny model, warms it up with a short supervised job, then trains it by GRPO to sort digits
and compares held-out accuracy before and after.

  --json FILE   also write accuracy_before, accuracy_after, seconds, optimizer_steps, run_dir
  --dir DIR     where model, data and runs go (default runs/demo-<time>)
TEXT
}

command_demo() {
  command_build release
  exec python3 "$SCRIPTS/demo.py" --bin "$ROOT/build/release/bin" \
    --recipes "$ROOT/deploy/recipes" "$@"
}
