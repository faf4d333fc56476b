# ./dev lint: formatting, layering, clang-tidy.

help_lint() {
  cat <<'TEXT'
usage: ./dev lint [--quick | --all | FILE...]

Checks formatting and layering of everything, and runs clang-tidy over the named files; by
default over what differs from the last commit on main, with --all over everything (long),
with --quick not at all.
TEXT
}

command_lint() {
  setup_build
  setup_lint
  source "$SCRIPTS/format.sh"
  command_format --check
  python3 "$SCRIPTS/check_layering.py" || die "layering is broken" "docs/architecture.md says why"
  local files=()
  case "${1:-}" in
    --quick) return 0 ;;
    --all) mapfile -t files < <(sources | grep '\.cc$') ;;
    "") mapfile -t files < <({ git diff --name-only HEAD; git diff --name-only HEAD~1 HEAD; } 2>/dev/null |
      sort -u | grep '\.cc$' | while read -r file; do [ ! -e "$file" ] || echo "$file"; done) ;;
    *) files=("$@") ;;
  esac
  # The build for lint has no CUDA, whose headers this one needs.
  mapfile -t files < <(printf '%s\n' "${files[@]}" | grep -v '/cuda_runtime\.cc$')
  [ -n "${files[*]}" ] || return 0
  configure tidy
  # Generated headers must exist.
  ninja -C "$ROOT/build/tidy" rollcall_proto >/dev/null || die "the protocol does not build"
  say "clang-tidy over ${#files[@]} files"
  printf '%s\n' "${files[@]}" |
    xargs -P 2 -n 1 clang-tidy-19 --quiet -p "$ROOT/build/tidy" 2>/dev/null ||
    die "clang-tidy found something"
}
