//! Something that speaks just enough of Pulsar's protocol to turn everybody away, as a broker with authentication
//! does with a wrong token.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Its address.
pub async fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // Whatever is asked, the answer is the same.
                let mut asked = [0; 1024];
                let _ = stream.read(&mut asked).await;
                let _ = stream.write_all(&refusal("Failed to authenticate")).await;
                let _ = stream.read(&mut asked).await;
            });
        }
    });
    format!("pulsar://{address}")
}

/// A frame with BaseCommand { type: ERROR (14), error (14): CommandError { request_id, error: 3, message } }.
fn refusal(message: &str) -> Vec<u8> {
    let mut error = vec![0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x10, 3, 0x1a];
    error.push(u8::try_from(message.len()).expect("short"));
    error.extend(message.as_bytes());
    let mut command = vec![0x08, 14, 0x72, u8::try_from(error.len()).expect("short")];
    command.extend(error);
    let size = u32::try_from(command.len()).expect("short");
    [&(size + 4).to_be_bytes()[..], &size.to_be_bytes(), &command].concat()
}
