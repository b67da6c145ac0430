//! Why a broker turned a connection away. The `pulsar` crate reduces every refused handshake to "fatal error"; this
//! repeats the handshake by hand, on plain connections only, to give a person the broker's own words.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use prost::Message as _;
use pulsar::proto::{BaseCommand, CommandConnect, ServerError, base_command};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use crate::{Error, ErrorKind};

const LIMIT: Duration = Duration::from_secs(3);
/// A greeting is small; more is not Pulsar speaking.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// What the broker at `url` says to a handshake with `token`; nothing if it cannot be asked or says yes.
pub(crate) async fn diagnose(url: &str, token: Option<&str>) -> Option<Error> {
    let address = Url::parse(url).ok().filter(|url| url.scheme() == "pulsar")?;
    let host = address.host_str()?.trim_matches(['[', ']']).to_owned();
    let port = address.port().unwrap_or(6650);
    tokio::time::timeout(LIMIT, handshake(url, &host, port, token)).await.ok()?
}

async fn handshake(url: &str, host: &str, port: u16, token: Option<&str>) -> Option<Error> {
    let mut stream = match TcpStream::connect((host, port)).await {
        Ok(stream) => stream,
        Err(error) => {
            return Some(Error::with_source(
                ErrorKind::Unreachable,
                format!("cannot connect to {url}: {error}; is the broker running, and is the address right?"),
                error,
            ));
        }
    };
    stream.write_all(&connect_frame(token)).await.ok()?;
    let mut head = [0; 8];
    stream.read_exact(&mut head).await.ok()?;
    let mut head = &head[..];
    let (total, size) = (head.get_u32() as usize, head.get_u32() as usize);
    if size + 4 > total || total > FRAME_BYTES_MAX {
        return Some(Error::new(
            ErrorKind::Unreachable,
            format!("cannot connect to {url}: what answers there does not speak Pulsar's protocol"),
        ));
    }
    let mut body = vec![0; size];
    stream.read_exact(&mut body).await.ok()?;
    let answer = BaseCommand::decode(&body[..]).ok()?.error?;
    let (kind, hint) = match ServerError::try_from(answer.error) {
        Ok(ServerError::AuthenticationError | ServerError::AuthorizationError) => (
            ErrorKind::Unauthorized,
            match token {
                Some(_) => "; the token (EVERPULSE_TOKEN or EVERPULSE_TOKEN_FILE) is not accepted there",
                None => "; it wants a token: set EVERPULSE_TOKEN or EVERPULSE_TOKEN_FILE",
            },
        ),
        _ => (ErrorKind::Refused, ""),
    };
    Some(Error::new(kind, format!("the broker at {url} turned us away: {}{hint}", answer.message)))
}

fn connect_frame(token: Option<&str>) -> BytesMut {
    let command = BaseCommand {
        r#type: base_command::Type::Connect as i32,
        connect: Some(CommandConnect {
            client_version: concat!("everpulse-", env!("CARGO_PKG_VERSION")).to_owned(),
            protocol_version: Some(12),
            auth_method_name: token.map(|_| "token".to_owned()),
            auth_data: token.map(|token| token.as_bytes().to_vec()),
            ..CommandConnect::default()
        }),
        ..BaseCommand::default()
    };
    let size = command.encoded_len();
    let mut frame = BytesMut::with_capacity(size + 8);
    frame.put_u32(u32::try_from(size + 4).expect("a connect command is small"));
    frame.put_u32(u32::try_from(size).expect("a connect command is small"));
    command.encode(&mut frame).expect("BytesMut grows");
    frame
}
