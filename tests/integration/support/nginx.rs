//! A real nginx in front of the same PHP-FPM: an HTTP origin, and the yardstick for FastCGI.

use std::process::Command;
use std::time::Duration;

use super::php::Php;
use super::process::{Process, free_port, program, wait_until};

/// nginx with every request going to the web root's `index.php`.
pub struct Nginx {
    pub port: u16,
    _process: Process,
    _directory: tempfile::TempDir,
}

impl Nginx {
    pub fn before(php: &Php) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, port) = (directory.path().display(), free_port());
        let config = format!(
            "daemon off; master_process off; pid {path}/nginx.pid; error_log {path}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_body_temp_path {path}/body; fastcgi_temp_path {path}/fastcgi;\n\
             proxy_temp_path {path}/proxy; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n\
             server {{ listen 127.0.0.1:{port}; root {root}; gzip off; large_client_header_buffers 8 64k;\n\
             fastcgi_buffer_size 64k; fastcgi_buffers 16 64k; fastcgi_busy_buffers_size 128k;\n\
             location / {{ include /etc/nginx/fastcgi_params; fastcgi_pass unix:{socket};\n\
             fastcgi_param SCRIPT_FILENAME {root}/index.php; fastcgi_param SCRIPT_NAME /index.php; }} }} }}\n",
            root = php.root().display(),
            socket = php.socket().display(),
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, config).expect("written");
        let mut command = Command::new(program("nginx"));
        command.arg("-c").arg(&file);
        let process = Process::start(&mut command, &directory.path().join("output"));
        wait_until("nginx", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { port, _process: process, _directory: directory }
    }
}
