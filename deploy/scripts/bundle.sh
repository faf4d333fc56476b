# ./dev bundle: binaries and the libraries they need, in one archive.

help_bundle() {
  cat <<'TEXT'
usage: ./dev bundle

Packs build/rollcall-linux-ARCH.tar.gz: bin/ with the programs, lib/ with every shared library
that a bare machine of the same distribution may lack (LibTorch, gRPC, protobuf ...), recipes/ with
their data.
TEXT
}

command_bundle() {
  command_build release
  local out=$ROOT/build/bundle/rollcall name
  rm -rf "$out"
  mkdir -p "$out/bin" "$out/lib" "$out/recipes"
  cp -r "$ROOT"/deploy/recipes/. "$out/recipes/"
  for name in rollcall rollcall-coordinator rollcall-rollout rollcall-reward rollcall-learner \
    rollcall-parquet; do
    [ -e "$ROOT/build/release/bin/$name" ] || continue  # rollcall-parquet is optional
    cp "$ROOT/build/release/bin/$name" "$out/bin/"
    # The C library and the loader belong to the machine.
    ldd "$out/bin/$name" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' |
      grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*)\.so' |
      xargs -r cp -Lnt "$out/lib/"
    cat >"$out/bin/$name.tmp" <<'WRAPPER'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH="$here/../lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$here/../libexec/$(basename "$0")" "$@"
WRAPPER
    mkdir -p "$out/libexec"
    mv "$out/bin/$name" "$out/libexec/$name"
    mv "$out/bin/$name.tmp" "$out/bin/$name"
    chmod +x "$out/bin/$name"
  done
  tar -C "$out/.." -czf "$ROOT/build/rollcall-linux-$(uname -m).tar.gz" rollcall
  say "Packed build/rollcall-linux-$(uname -m).tar.gz ($(du -h "$ROOT/build/rollcall-linux-$(uname -m).tar.gz" | cut -f1))"
}
