//! `http_client IP:PORT`: asks a server for all that it has, over one connection that is kept, and
//! once more over another, which is to be closed after the answer.

#[cfg(target_family = "wasm")]
mod client {
    use cage_libc::net::Socket;
    use http_body_util::{BodyExt, Full};
    use http_cages::{Connection, pattern, run};
    use hyper::Request;
    use hyper::body::Bytes;
    use hyper::client::conn::http1::{self, SendRequest};
    use std::future::{Future, poll_fn};
    use std::net::SocketAddr;
    use std::pin::pin;
    use std::task::Poll;

    type Outcome<T> = Result<T, String>;

    const KEEP: &str = "keep-alive";
    const CLOSE: &str = "close";
    const HELLO: &str = "hello from a cage";

    async fn ask(
        sender: &mut SendRequest<Full<Bytes>>,
        method: &str,
        path: &str,
        after: &str,
        body: Bytes,
    ) -> Outcome<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "cage")
            .header("connection", after)
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let failed = |error: hyper::Error| format!("{method} {path}: {error:?}");
        let response = sender.send_request(request).await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(format!("{method} {path}: {}", response.status()));
        }
        let is_closed = response
            .headers()
            .get("connection")
            .is_some_and(|value| value == CLOSE);
        if is_closed != (after == CLOSE) {
            return Err(format!("{method} {path}: not {after}"));
        }
        let body = response.into_body().collect().await.map_err(failed)?;
        Ok(body.to_bytes())
    }

    async fn all(sender: &mut SendRequest<Full<Bytes>>) -> Outcome<()> {
        let hello = ask(sender, "GET", "/hello", KEEP, Bytes::new()).await?;
        let bytes = ask(sender, "GET", "/bytes/1000000", KEEP, Bytes::new()).await?;
        let posted: Bytes = (0..300_000).map(pattern).collect();
        let echoed = ask(sender, "POST", "/echo", KEEP, posted.clone()).await?;
        let is_pattern = bytes.len() == 1_000_000
            && bytes
                .iter()
                .enumerate()
                .all(|(at, byte)| *byte == pattern(at));
        if hello != HELLO || !is_pattern || echoed != posted {
            return Err("another answer than was asked for".to_owned());
        }
        Ok(())
    }

    async fn last(sender: &mut SendRequest<Full<Bytes>>) -> Outcome<()> {
        let hello = ask(sender, "GET", "/hello", CLOSE, Bytes::new()).await?;
        if hello != HELLO {
            return Err("another answer than was asked for".to_owned());
        }
        Ok(())
    }

    fn connection(
        at: SocketAddr,
        work: impl AsyncFnOnce(&mut SendRequest<Full<Bytes>>) -> Outcome<()>,
    ) -> Outcome<()> {
        let said = |errno: cage_libc::sys::Errno| format!("errno {}", errno.0);
        let socket = Socket::tcp_connect(at).map_err(said)?;
        let fd = socket.fd();
        let io = Connection::new(socket).map_err(said)?;
        run(fd, async {
            let begun = http1::handshake(io).await;
            let (mut sender, connection) = begun.map_err(|error| error.to_string())?;
            let mut connection = pin!(connection);
            let mut work = pin!(work(&mut sender));
            let mut has_ended = false;
            // The connection is what moves the bytes while the work waits for them.
            poll_fn(|context| {
                if !has_ended && let Poll::Ready(end) = connection.as_mut().poll(context) {
                    end.map_err(|error| format!("{error:?}"))?;
                    has_ended = true;
                }
                work.as_mut().poll(context)
            })
            .await
        })
    }

    pub fn main(at: SocketAddr) -> Outcome<()> {
        connection(at, all)?;
        connection(at, last)
    }
}

#[cfg(target_family = "wasm")]
fn main() {
    let at = std::env::args().nth(1).and_then(|at| at.parse().ok());
    let done = match at {
        Some(at) => client::main(at),
        None => Err("usage: http_client IP:PORT".to_owned()),
    };
    match done {
        Ok(()) => println!("http done"),
        Err(error) => {
            println!("{error}");
            std::process::exit(1);
        }
    }
}

#[cfg(not(target_family = "wasm"))]
fn main() {}
