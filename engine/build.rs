//! Compiles the steering program `src/port/steer.bpf.c` to the object that `port/steer.rs` loads.

use std::env;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

const SOURCE: &str = "src/port/steer.bpf.c";
const MARKS: &str = "src/port/steer/marks.bpf.h";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed={MARKS}");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // clang's bpf target does not look where Debian keeps the machine's own <asm/types.h>.
    let machine = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let asm = format!("-I/usr/include/{machine}-linux-gnu");
    SkeletonBuilder::new()
        .source(SOURCE)
        .obj(out.join("steer.bpf.o"))
        .clang_args([asm.as_str(), "-Wall", "-Werror"])
        .build()
        .unwrap_or_else(|error| {
            panic!("the steering program does not build (Debian: apt install clang libelf-dev linux-libc-dev): {error:#}")
        });
}
