mkdir -p one/src two/src
printf '[workspace]\nresolver = "2"\nmembers = ["one", "two"]\n' > Cargo.toml
printf '[package]\nname = "one"\nversion = "0.1.0"\nedition = "2021"\n' > one/Cargo.toml
printf '[package]\nname = "two"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\none = { path = "../one" }\n' > two/Cargo.toml
cat > one/build.rs <<'END'
fn main() {
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
    std::fs::write(out.join("made.rs"), "pub const MADE: &str = \"made by a script\";").unwrap();
}
END
printf 'include!(concat!(env!("OUT_DIR"), "/made.rs"));\n' > one/src/lib.rs
printf 'fn main() { println!("{}, and version 1", one::MADE); }\n' > two/src/main.rs
unset CARGO_TARGET_DIR CARGO_INCREMENTAL RUSTFLAGS
export CARGO_TERM_COLOR=never
cargo build --offline --quiet
./target/debug/two
cargo build --offline 2>&1 | grep -c Compiling
sleep 1
printf 'fn main() { println!("{}, and version 2", one::MADE); }\n' > two/src/main.rs
cargo build --offline 2>&1 | grep -o 'Compiling two'
./target/debug/two
find target -name '*.d' | wc -l
cargo clean --quiet
ls target
rm Cargo.lock
