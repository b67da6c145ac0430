//! The spelling of header names. HTTP ignores it, and hyper writes small letters; but the Java admin client looks for a
//! message's properties under `X-Pulsar-PROPERTY` to the letter.
//!
//! hyper writes a name as a response's extensions spell it, in a type of its own that only its parser makes. So a
//! request with that spelling is put through a server, once, and what the parser made of it is kept.

use axum::http::{Extensions, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{OnceCell, mpsc};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\nX-Pulsar-PROPERTY: {}\r\n\r\n";

/// What makes a response spell its names as Apache Pulsar does.
pub async fn of_pulsar() -> Extensions {
    static SPELLING: OnceCell<Extensions> = OnceCell::const_new();
    SPELLING.get_or_init(learn).await.clone()
}

async fn learn() -> Extensions {
    let (mut client, server) = tokio::io::duplex(4 * 1024);
    let (sender, mut learnt) = mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Incoming>| {
        // The other end is there as long as this function is.
        let _ = sender.send(request.extensions().clone());
        async { Ok::<_, std::convert::Infallible>(Response::new(String::new())) }
    });
    // A buffer in memory takes so little at once.
    let _ = client.write_all(REQUEST).await;
    let connection = http1::Builder::new().preserve_header_case(true).serve_connection(TokioIo::new(server), service);
    tokio::select! {
        _ = connection => learnt.try_recv().unwrap_or_default(),
        extensions = learnt.recv() => extensions.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn properties_are_written_as_java_looks_for_them() {
        let (mut client, server) = tokio::io::duplex(4 * 1024);
        client.write_all(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").await.expect("room");
        let service = service_fn(async |_: Request<Incoming>| {
            let mut response = Response::new(String::new());
            response.headers_mut().insert("x-pulsar-property", "{}".parse().expect("a value"));
            response.extensions_mut().extend(of_pulsar().await);
            Ok::<_, std::convert::Infallible>(response)
        });
        http1::Builder::new().serve_connection(TokioIo::new(server), service).await.expect("served");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("text");
        assert!(answer.contains("\r\nX-Pulsar-PROPERTY: {}\r\n"), "{answer}");
    }
}
