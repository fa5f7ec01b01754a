//! The machine and the program, as far as figures depend on them.

use std::fs;
use std::process::Command;
use std::time::UNIX_EPOCH;

use super::run_folder::Host;
use crate::bench::socket::buffer_bounds;

/// This machine.
pub(crate) fn host() -> Host {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let memory = proc_field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    Host {
        kernel: format!("{} {} {}", text(uname.sysname()), text(uname.release()), text(uname.machine())),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        processor: proc_field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
        memory_bytes: memory.unwrap_or(0) * 1024,
        socket_buffers: buffer_bounds().into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect(),
    }
}

fn proc_field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) = text.lines().find(|line| line.starts_with(name))?.split_once(':')?;
    Some(value.trim().to_owned())
}

/// The commit of the sources that this program was built from and whether they had been changed since, while it stands
/// beside them and no commit came after it was built.
pub(crate) fn commit() -> Option<(String, bool)> {
    let git = |arguments: &[&str]| {
        let source = env!("CARGO_MANIFEST_DIR");
        let output = Command::new("git").args(["-C", source]).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let committed: u64 = git(&["log", "-1", "--format=%ct"])?.parse().ok()?;
    let built = std::env::current_exe().ok()?.metadata().ok()?.modified().ok()?;
    if built.duration_since(UNIX_EPOCH).ok()?.as_secs() < committed {
        return None;
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some((commit, !changes.is_empty()))
}
