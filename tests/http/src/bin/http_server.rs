//! `http_server IP:PORT COUNT`: serves COUNT connections. `/hello` is a text, `/bytes/N` a pattern
//! of N bytes, and `/echo` what was posted to it.

#[cfg(target_family = "wasm")]
mod server {
    use cage_libc::net::Socket;
    use http_body_util::{BodyExt, Full};
    use http_cages::{Connection, pattern, run};
    use hyper::body::{Bytes, Incoming};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response, StatusCode};
    use std::net::SocketAddr;

    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let path = request.uri().path().to_owned();
        let wanted = path.strip_prefix("/bytes/").map(str::parse::<usize>);
        let body = match (path.as_str(), wanted) {
            ("/hello", _) => Bytes::from_static(b"hello from a cage"),
            ("/echo", _) => request.into_body().collect().await?.to_bytes(),
            (_, Some(Ok(len))) => (0..len).map(pattern).collect(),
            _ => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::NOT_FOUND;
                return Ok(response);
            }
        };
        Ok(Response::new(Full::new(body)))
    }

    pub fn main(at: SocketAddr, count: usize) -> Result<(), String> {
        let said = |errno: cage_libc::sys::Errno| format!("errno {}", errno.0);
        let listener = Socket::tcp_listen(at).map_err(said)?;
        let mut failed = 0;
        for _ in 0..count {
            let (socket, _) = listener.accept(0).map_err(said)?;
            let fd = socket.fd();
            let connection = Connection::new(socket).map_err(said)?;
            let service = service_fn(answer);
            let served = http1::Builder::new().serve_connection(connection, service);
            failed += usize::from(run(fd, served).is_err());
        }
        println!("served {}, failed {failed}", count - failed);
        Ok(())
    }
}

#[cfg(target_family = "wasm")]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match args.as_slice() {
        [at, count] => at.parse().ok().zip(count.parse().ok()),
        _ => None,
    };
    let done = match parsed {
        Some((at, count)) => server::main(at, count),
        None => Err("usage: http_server IP:PORT COUNT".to_owned()),
    };
    if let Err(error) = done {
        eprintln!("http_server: {error}");
        std::process::exit(1);
    }
}

#[cfg(not(target_family = "wasm"))]
fn main() {}
