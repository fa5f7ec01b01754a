//! The C side: the header is what the sources say, and programs in C compile without a warning and run under valgrind
//! without an error or a leak. What is not installed here is left out, counted and named.

#[path = "../../cli/tests/support/guide.rs"]
#[expect(dead_code, reason = "what the other guides have is not in those for C")]
mod guide;
#[path = "../../cli/tests/support/ports.rs"]
mod ports;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};

use raftgram::kv::Kv;
use raftgram::{Fsync, IfBlank, Node, NodeId, NodeOptions};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where cargo puts the shared and the static library of this very build.
fn libraries() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().unwrap();
    let places = [folder, folder.parent().unwrap()];
    let found = places.iter().find(|place| place.join("libraftgram_capi.so").exists());
    (*found.unwrap_or_else(|| panic!("no shared library in {places:?}"))).to_owned()
}

fn is_here(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{said}\n{complained}");
    said.into_owned()
}

/// Compiles and links a program against the installed library.
fn compile(source: &str, installed: &Path, link: Link) -> PathBuf {
    let program = installed.join(Path::new(source).file_stem().unwrap());
    let mut command = Command::new("cc");
    command
        .args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"])
        .arg("-I")
        .arg(installed.join("include"))
        .arg(repository().join(source))
        .arg("-o")
        .arg(&program);
    match link {
        Link::Shared => command.args(flags(installed)),
        Link::Static => command.arg(installed.join("lib/libraftgram_capi.a")).args([
            "-lpthread",
            "-ldl",
            "-lm",
            "-lgcc_s",
        ]),
    };
    run(&mut command);
    program
}

/// What a program is compiled and linked with, as pkg-config tells it; the program then finds the library by itself.
fn flags(installed: &Path) -> Vec<String> {
    if is_here("pkg-config") {
        let told = run(Command::new("pkg-config")
            .args(["--cflags", "--libs", "raftgram"])
            .env("PKG_CONFIG_PATH", installed.join("lib/pkgconfig")));
        return told.split_whitespace().map(str::to_owned).collect();
    }
    eprintln!("skipped 1: pkg-config is not installed");
    let folder = installed.join("lib").display().to_string();
    vec![format!("-L{folder}"), format!("-Wl,-rpath,{folder}"), "-lraftgram_capi".to_owned()]
}

enum Link {
    Shared,
    Static,
}

/// The program under valgrind, or alone where that is not installed; it has to find the library by itself.
fn checked(program: &Path) -> Command {
    let mut command = if is_here("valgrind") {
        let mut command = Command::new("valgrind");
        command.args([
            "--quiet",
            "--error-exitcode=99",
            "--leak-check=full",
            "--show-leak-kinds=definite,possible",
            "--errors-for-leak-kinds=definite,possible",
            "--fair-sched=yes",
        ]);
        command.arg(program);
        command
    } else {
        eprintln!("skipped 1: valgrind is not installed; {} runs without it", program.display());
        Command::new(program)
    };
    // Cargo names its own folders there.
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// Three ports in a row that nobody uses.
fn free_ports() -> u16 {
    // Never the same ones twice: tests run beside each other.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 400).unwrap() * 20;
    // Below those the kernel gives to sockets that ask for none.
    ports::first_free((0..800).map(|_| 12_000 + (own + NEXT.fetch_add(10, Ordering::Relaxed)) % 8_000), 3)
}

#[test]
fn the_header_is_what_the_sources_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    // From the sources: given the package, it would ask cargo for all dependencies of all platforms.
    let builder = cbindgen::Builder::new().with_config(config);
    let header = builder.with_src(folder.join("src/lib.rs")).generate().unwrap();
    let mut made = Vec::new();
    header.write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let file = repository().join("include/raftgram.h");
    if std::env::var_os("RAFTGRAM_UPDATE").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap();
    assert!(
        committed == made,
        "include/raftgram.h is behind tools/capi/src; RAFTGRAM_UPDATE=1 writes it anew"
    );
    // Which `every function is documented` means: a comment line right above each declaration.
    let lines: Vec<&str> = made.lines().collect();
    let declared = lines.windows(2).filter(|pair| {
        !pair[1].starts_with([' ', '/', '}']) && pair[1].contains("raftgram_") && pair[1].contains('(')
    });
    let mut count = 0;
    for pair in declared {
        assert!(pair[0].starts_with("//"), "{} stands there without a word", pair[1]);
        count += 1;
    }
    assert_eq!(count, 16, "functions in the header");
}

/// The guides' own commands, in a clone where the library was built. Ports of the text stand for free ones.
#[test]
fn what_the_guides_say_about_c_runs_as_printed() {
    if !is_here("cc") || !is_here("pkg-config") {
        return eprintln!("skipped 2: there is no C compiler, or no pkg-config");
    }
    for name in ["README.md", "docs/c.md"] {
        let mut blocks = guide::blocks(&guide::read(name));
        let mut is_ours = false;
        blocks.retain(|block| {
            is_ours = block.kind == "sh by tools/capi/tests/c.rs" || is_ours && block.kind == "output";
            is_ours
        });
        assert!(!blocks.is_empty(), "{name}");
        blocks.iter_mut().filter(|block| block.kind != "output").for_each(|block| block.kind.truncate(2));
        let libraries = libraries();
        let built = ["libraftgram_capi.so", "libraftgram_capi.a"].map(|file| libraries.join(file));
        let reader = guide::Reader::new(free_ports() - 80, &built[0]);
        reader.clones(&[&built[0], &built[1]]);
        reader.run(name, &blocks);
    }
}

/// All in one test: they share two processors, and nodes under valgrind are slow.
#[test]
fn programs_in_c_compile_without_a_warning_and_run_without_a_leak() {
    if !is_here("cc") {
        return eprintln!("skipped 3: there is no C compiler");
    }
    let installed = tempfile::tempdir().unwrap();
    let installed = installed.path();
    run(Command::new(repository().join("tools/capi/install")).arg(installed).arg(libraries()));

    let port = free_ports();
    let misuse = compile("tools/capi/tests/misuse.c", installed, Link::Shared);
    let said = run(checked(&misuse).arg(installed.join("one")).arg(port.to_string()));
    assert_eq!(said, format!("all noticed by raftgram {}\n", env!("CARGO_PKG_VERSION")));

    let counter = compile("examples/c/counter.c", installed, Link::Shared);
    let said = run(checked(&counter).arg(installed.join("three")).arg(port.to_string()));
    assert!(said.contains("added 10: 55 (entry ") && said.contains("\ntotal 55\n"), "{said}");

    let kv = compile("examples/c/kv.c", installed, Link::Static);
    let mut options = NodeOptions::new(NodeId::MIN, ([127, 0, 0, 1], port).into(), installed.join("store"));
    options.voters = NodeOptions::voters_from(&[options.listen]);
    (options.if_blank, options.fsync) = (IfBlank::Bootstrap, Fsync::Off);
    let node = Node::start(options, Kv::new()).unwrap();
    let port = port.to_string();
    run(checked(&kv).args([&port, "put", "greeting", "hello"]));
    assert_eq!(run(checked(&kv).args([&port, "get", "greeting"])), "hello\n");
    run(checked(&kv).args([&port, "delete", "greeting"]));
    let gone = checked(&kv).args([&port, "get", "greeting"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(4), "{gone:?}");
    node.shutdown().unwrap();
}
