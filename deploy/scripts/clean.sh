# ./dev clean: remove what was built.

help_clean() {
  cat <<'TEXT'
usage: ./dev clean [--cache]

Removes the build folders; with --cache also the virtual environment with LibTorch.
TEXT
}

command_clean() {
  rm -rf "$ROOT/build"
  if [ "${1:-}" = --cache ]; then rm -rf "$VENV"; fi
}
