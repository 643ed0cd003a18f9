//! E-mail through an SMTP server: plain text, with the message's id in `X-Heartwatch-Delivery`.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use heartwatch_formats::notification::NotifyMessage;
use heartwatch_ports::credentials::Login;
use heartwatch_ports::{BoxFuture, Notify, NotifyError};
use heartwatch_system::rustls_provider;

/// Longest subject, in characters.
const SUBJECT_CHARS_MAX: usize = 150;

/// How the connection to the server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// TLS from the first byte (`smtps://`).
    Tls,
    /// STARTTLS, or no mail.
    StartTls,
    /// Not at all: for a server on this host.
    None,
}

/// The server that takes our mail, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    /// Its name or address.
    pub host: String,
    /// 465, 587 or 25, unless the configuration names another.
    pub port: u16,
    /// How the connection is protected.
    pub encryption: Encryption,
    /// A file with the certificates (PEM) that the server's must chain to; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// User and password.
    pub login: Option<Login>,
    /// The sender.
    pub from: Mailbox,
}

/// Who is written to, and through which server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailConfig {
    /// Who takes the mail.
    pub server: MailServer,
    /// The receivers.
    pub to: Vec<Mailbox>,
    /// How long one attempt may take, and each step of it.
    pub timeout: Duration,
}

/// The settings do not make a mailer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot send mail through {host}: {reason}")]
pub struct NoMailer {
    host: String,
    reason: String,
}

/// Mail to a list of receivers.
pub struct Mail {
    config: MailConfig,
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

impl Mail {
    /// A mailer; it connects to nothing yet.
    ///
    /// # Errors
    /// [`NoMailer`]: the certificates cannot be used.
    pub fn new(config: MailConfig) -> Result<Self, NoMailer> {
        rustls_provider::install();
        let failed = |reason: String| NoMailer { host: config.server.host.clone(), reason };
        let parameters = || {
            let mut parameters = TlsParameters::builder(config.server.host.clone());
            if let Some(path) = &config.server.ca_file {
                let pem = std::fs::read(path).map_err(|error| failed(format!("{}: {error}", path.display())))?;
                let certificate =
                    Certificate::from_pem(&pem).map_err(|error| failed(format!("{}: {error}", path.display())))?;
                parameters = parameters.add_root_certificate(certificate);
            }
            parameters.build().map_err(|error| failed(error.to_string()))
        };
        let tls = match config.server.encryption {
            Encryption::Tls => Tls::Wrapper(parameters()?),
            Encryption::StartTls => Tls::Required(parameters()?),
            Encryption::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.server.host)
            .port(config.server.port)
            .tls(tls)
            .timeout(Some(config.timeout));
        if let Some(Login { user, password }) = &config.server.login {
            builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        let transport = builder.build();
        Ok(Self { config, transport })
    }

    async fn send(&self, message: &NotifyMessage) -> Result<(), NotifyError> {
        let mail = self.mail(message).map_err(|reason| NotifyError::Refused { reason })?;
        match tokio::time::timeout(self.config.timeout, self.transport.send(mail)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(judge(&error)),
            Err(_) => Err(NotifyError::Retry { reason: "no answer in time".to_owned(), retry_after: None }),
        }
    }

    fn mail(&self, message: &NotifyMessage) -> Result<Message, String> {
        let subject: String = format!("[heartwatch] {}", message.headline).chars().take(SUBJECT_CHARS_MAX).collect();
        let id = HeaderName::new_from_ascii_str("X-Heartwatch-Delivery");
        let mut mail = Message::builder().from(self.config.server.from.clone()).subject(subject);
        for to in &self.config.to {
            mail = mail.to(to.clone());
        }
        mail.header(ContentType::TEXT_PLAIN)
            .raw_header(HeaderValue::new(id, message.id.clone()))
            .message_id(Some(format!("<{}@{}>", message.id, self.config.server.from.email.domain())))
            .body(message.text.clone())
            .map_err(|error| format!("it makes no mail: {error}"))
    }
}

impl Notify for Mail {
    fn kind(&self) -> &'static str {
        "email"
    }

    fn deliver<'a>(&'a self, message: &'a NotifyMessage) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(self.send(message))
    }
}

/// A permanent refusal (5xx) is about this mail, unless it is about who we are.
fn judge(error: &lettre::transport::smtp::Error) -> NotifyError {
    let mut reason = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        let more = cause.to_string();
        if !reason.contains(&more) {
            reason.push_str(&format!(": {more}"));
        }
    }
    let code = error.status().map(|code| code.to_string());
    let about_us = matches!(code.as_deref(), Some("530" | "534" | "535" | "538"));
    if error.is_permanent() && !about_us {
        return NotifyError::Refused { reason };
    }
    NotifyError::Retry { reason, retry_after: None }
}
