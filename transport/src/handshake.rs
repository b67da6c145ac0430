//! Why a broker turned a connection away. The `pulsar` crate reduces every refused handshake to "fatal error"; this
//! repeats the handshake by hand, that of TLS too, to give a person the broker's own words.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use prost::Message as _;
use pulsar::proto::{BaseCommand, CommandConnect, ServerError, base_command};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use crate::access::{Access, Shown};
use crate::error::kind_of_code;
use crate::{Error, ErrorKind};

const LIMIT: Duration = Duration::from_secs(3);
/// A greeting is small; more is not Pulsar speaking.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// What the broker at `url` says to a handshake with what `access` shows; nothing if it cannot be asked or says yes.
pub(crate) async fn diagnose(url: &str, access: &Access) -> Option<Error> {
    let address = Url::parse(url).ok()?;
    let host = address.host_str()?.trim_matches(['[', ']']).to_owned();
    tokio::time::timeout(LIMIT, async {
        let shown = access.shown().await.ok()?;
        if address.scheme() == "pulsar+ssl" {
            return match access.tls.dial(&host, address.port().unwrap_or(6651)).await {
                // With TLS 1.3 a broker objects to our certificate after the handshake.
                Ok(stream) => handshake(url, stream, shown).await.unwrap_or_else(|error| {
                    let (kind, reason) = access.tls.explain(&error)?;
                    Some(Error::with_source(kind, format!("cannot connect to {url}: {reason}"), error))
                }),
                Err(error) => Some(error),
            };
        }
        match TcpStream::connect((host, address.port().unwrap_or(6650))).await {
            Ok(stream) => handshake(url, stream, shown).await.ok().flatten(),
            Err(error) => Some(Error::with_source(
                ErrorKind::Unreachable,
                format!("cannot connect to {url}: {error}; is the broker running, and is the address right?"),
                error,
            )),
        }
    })
    .await
    .ok()?
}

async fn handshake(
    url: &str,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    shown: Option<Shown>,
) -> io::Result<Option<Error>> {
    let method = shown.as_ref().map(|shown| shown.method);
    stream.write_all(&connect_frame(shown)).await?;
    stream.flush().await?;
    let mut head = [0; 8];
    stream.read_exact(&mut head).await?;
    let mut head = &head[..];
    let (total, size) = (head.get_u32() as usize, head.get_u32() as usize);
    if size + 4 > total || total > FRAME_BYTES_MAX {
        return Ok(Some(Error::new(
            ErrorKind::Unreachable,
            format!("cannot connect to {url}: what answers there does not speak Pulsar's protocol"),
        )));
    }
    let mut body = vec![0; size];
    stream.read_exact(&mut body).await?;
    let Some(answer) = BaseCommand::decode(&body[..]).ok().and_then(|answer| answer.error) else { return Ok(None) };
    let kind = ServerError::try_from(answer.error).map_or(ErrorKind::Unreachable, kind_of_code);
    let hint = match (kind, method) {
        (ErrorKind::Unauthorized, Some("tls")) => {
            "; the certificate (tls_cert or EVERPULSE_TLS_CERT) is not accepted there"
        }
        (ErrorKind::Unauthorized, Some(_)) => {
            "; the token (EVERPULSE_TOKEN or EVERPULSE_TOKEN_FILE, or the one that EVERPULSE_OAUTH2_KEY_FILE gives) \
             is not accepted there"
        }
        (ErrorKind::Unauthorized, None) => {
            "; it wants a token (set EVERPULSE_TOKEN, EVERPULSE_TOKEN_FILE or EVERPULSE_OAUTH2_KEY_FILE) or a certificate of ours (set \
             EVERPULSE_TLS_CERT and EVERPULSE_TLS_KEY)"
        }
        _ => "",
    };
    Ok(Some(Error::new(kind, format!("the broker at {url} turned us away: {}{hint}", answer.message))))
}

fn connect_frame(shown: Option<Shown>) -> BytesMut {
    let (method, data) = shown.map(|shown| (shown.method.to_owned(), shown.data)).unzip();
    frame(&BaseCommand {
        r#type: base_command::Type::Connect as i32,
        connect: Some(CommandConnect {
            client_version: concat!("everpulse-", env!("CARGO_PKG_VERSION")).to_owned(),
            protocol_version: Some(12),
            auth_method_name: method,
            auth_data: data,
            ..CommandConnect::default()
        }),
        ..BaseCommand::default()
    })
}

/// A command as it is sent, without a payload.
pub(crate) fn frame(command: &BaseCommand) -> BytesMut {
    let size = command.encoded_len();
    let mut frame = BytesMut::with_capacity(size + 8);
    frame.put_u32(u32::try_from(size + 4).expect("a command without a payload is small"));
    frame.put_u32(u32::try_from(size).expect("a command without a payload is small"));
    command.encode(&mut frame).expect("BytesMut grows");
    frame
}
