//! A server's nginx: its config, with everything that it writes inside the lab's folder.

use std::fs;
use std::path::Path;

use crate::{Error, HTTP_ALT_PORT, HTTP_PORT};

/// Bytes of the page `/big`.
pub(crate) const BIG_BYTES: usize = 1 << 20;

/// The page `/big`: a pattern whose period is prime to any packet's size, so that no piece of it
/// can stand in another's place unseen.
pub(crate) fn big_page() -> Vec<u8> {
    (0..BIG_BYTES).map(|i| (i % 251) as u8).collect()
}

/// Writes the config of server `n`, with IPv6 or without, and its pages into `folder` and gives the config's file name.
pub(crate) fn write_config(folder: &Path, n: usize, ipv6: bool) -> Result<String, Error> {
    let pages = folder.join("pages");
    fs::create_dir_all(&pages).map_err(Error::file(&pages))?;
    let big = pages.join("big");
    if !big.exists() {
        fs::write(&big, big_page()).map_err(Error::file(big))?;
    }
    let file = folder.join("nginx.conf");
    fs::write(&file, config(folder, n, ipv6)).map_err(Error::file(&file))?;
    Ok(file.display().to_string())
}

/// One process, no access log, each of the temporary paths its own.
fn config(folder: &Path, n: usize, ipv6: bool) -> String {
    let folder = folder.display();
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        temporary += &format!("    {kind}_temp_path {folder}/{kind};\n");
    }
    let mut listen = String::new();
    for address in if ipv6 { &["0.0.0.0", "[::]"][..] } else { &["0.0.0.0"] } {
        for port in [HTTP_PORT, HTTP_ALT_PORT] {
            listen += &format!("        listen {address}:{port} backlog=4096;\n");
        }
    }
    format!(
        r#"daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_rlimit_nofile 20000;
events {{
    worker_connections 8192;
    multi_accept on;
}}
http {{
    access_log off;
    default_type text/plain;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 100000000;
{temporary}    server {{
{listen}        add_header X-Server "server {n}";
        location = / {{ return 200 "server {n}\n"; }}
        location / {{ root {folder}/pages; }}
    }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_outside_the_folder() {
        let text = config(Path::new("/run/x"), 2, true);
        let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
        let mut outside = paths.filter(|path| !path.starts_with("/run/x/") && *path != "/");
        assert_eq!(outside.next(), None);
        assert!(text.contains("return 200 \"server 2\\n\";"));
    }
}
