//! The configuration of nginx and haproxy: one worker, kept connections, nothing buffered, nothing logged.

use std::{fs, io, net::SocketAddr, path::Path};

/// The words after `nginx`.
pub fn nginx(folder: &Path, server: SocketAddr, front: SocketAddr) -> io::Result<[&'static str; 4]> {
    let place = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {place}/{kind};"))
        .concat();
    let text = format!(
        "master_process off; daemon off; worker_processes 1; worker_rlimit_nofile 8192; pid {place}/nginx.pid;
         error_log stderr crit;
         events {{ worker_connections 8192; }}
         http {{ access_log off; {temporary} client_max_body_size 0; keepalive_requests 10000000;
             upstream server {{ server {server}; keepalive 64; keepalive_requests 10000000; }}
             server {{ listen {front}; location / {{ proxy_pass http://server; proxy_http_version 1.1;
                 proxy_set_header Connection ''; proxy_set_header Host $http_host; proxy_read_timeout 1h;
                 proxy_buffering off; proxy_request_buffering off; }} }} }}"
    );
    let path = written(folder, "nginx.conf", &text)?;
    Ok(["-c", path, "-e", "stderr"])
}

/// The words after `haproxy`.
pub fn haproxy(folder: &Path, server: SocketAddr, front: SocketAddr) -> io::Result<[&'static str; 3]> {
    let text = format!(
        "global\n nbthread 1\n maxconn 8192\n\
         defaults\n mode http\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n option http-keep-alive\n \
         http-reuse always\n\
         frontend front\n bind {front}\n default_backend back\n\
         backend back\n server server {server}\n"
    );
    Ok(["-db", "-f", written(folder, "haproxy.cfg", &text)?])
}

/// The path lives as long as the run: a handful of them.
fn written(folder: &Path, name: &str, text: &str) -> io::Result<&'static str> {
    let path = folder.join(name);
    fs::write(&path, text)?;
    Ok(String::leak(path.display().to_string()))
}
