//! Compiles the emulator, and every kernel twice: as it is, and with each memory access announced
//! to the checker.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Folders with kernels: the product's, and some with known mistakes.
const KERNELS: [&str; 2] = ["../kernels", "planted"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    for folder in KERNELS.into_iter().chain(["cpp"]) {
        println!("cargo:rerun-if-changed={folder}");
    }

    let mut engine = compiler(3);
    engine.warnings(true).extra_warnings(true);
    for file in files("cpp", "cpp") {
        engine.file(file);
    }

    let kernels: Vec<PathBuf> = KERNELS
        .into_iter()
        .flat_map(|folder| files(folder, "cu"))
        .collect();
    let mut links = String::from("extern \"C\" {\n");
    let mut calls = String::new();
    for checked in [false, true] {
        // Optimised enough to keep locals in registers: each access of memory costs a call.
        let mut build = compiler(if checked { 1 } else { 2 });
        // Structs by value of 64-byte alignment: what old compilers did with them concerns nobody.
        build.warnings(false).flag("-w").flag("-Wno-psabi");
        if checked {
            build.flag("-fsanitize=thread");
        }
        for kernel in &kernels {
            let stem = kernel.file_stem().expect("a file").to_string_lossy();
            let name = format!("{stem}_{}", if checked { "checked" } else { "plain" });
            let unit = out.join(format!("{name}.cpp"));
            write_if_changed(&unit, &translation_unit(kernel, &name, checked));
            build.file(unit);
            links += &format!("void emulator_link_{name}();\n");
            calls += &format!("    emulator_link_{name}();\n");
        }
        build.compile(if checked {
            "kernels_checked"
        } else {
            "kernels_plain"
        });
    }
    // Refers to every kernel's file: the linker leaves out members of archives that nobody names.
    let link = out.join("link.cpp");
    let body = format!("{links}void emulator_link() {{\n{calls}}}\n}}\n");
    write_if_changed(&link, &body);
    engine.file(link);
    engine.compile("emulator");
    // Again after the engine, which the kernels call and which names them.
    for library in ["kernels_plain", "kernels_checked", "emulator"] {
        println!("cargo:rustc-link-lib=static={library}");
    }
}

fn compiler(level: u32) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++20")
        .opt_level(level)
        .include("cpp")
        .include("../kernels")
        // Kernels look at floats as integers.
        .flag("-fno-strict-aliasing")
        // Nothing of an Engine is shared between threads.
        .flag("-fno-threadsafe-statics")
        // A card contracts where the source says so; results should not depend on the host.
        .flag("-ffp-contract=off");
    // Which cards have, so that kernels ask for it; without it each is a call.
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("fma") {
        build.flag("-mfma");
    }
    build
}

fn translation_unit(kernel: &Path, name: &str, checked: bool) -> String {
    let kernel = fs::canonicalize(kernel).expect("just listed");
    format!(
        "#define EMULATOR_CHECKED {checked}\n\
         #include \"cuda_on_cpu.h\"\n\
         namespace {{\n\
         #include \"{}\"\n\
         }}\n\
         extern \"C\" void emulator_link_{name}() {{}}\n",
        kernel.display()
    )
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|own| own == extension))
        .collect();
    files.sort();
    files
}

fn write_if_changed(path: &Path, text: &str) {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text).expect("OUT_DIR is writable");
    }
}
