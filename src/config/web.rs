//! `[web]`: where the page is, and who may see it.

use super::Overrides;
use super::document::Given;
use super::kinds::{Settled as _, boolean, named};
use super::reader::{Reader, Sourced};
use crate::web::WebConfig;
use heartwatch_formats::values;

/// Fewest characters of a token that opens the page. With fewer it can be found by trying.
const TOKEN_CHARS_MIN: usize = 16;

/// `[web]`; none where the page is off.
pub(super) fn web(reader: &mut Reader<'_>, flags: &Overrides, default: Option<WebConfig>) -> Option<WebConfig> {
    let table = reader.table("web");
    let listen = |given: Given<'_>| given.text("127.0.0.1:8080", |text| text.parse::<values::WebListen>());
    let listen = reader.read(&table, "listen", named("--web", &flags.web), listen);
    let token = reader.secret(&table, "token", "token_file", None);
    let read_only_token = reader.secret(&table, "read_only_token", "read_only_token_file", None);
    for (name, token) in [("token_file", &token), ("read_only_token_file", &read_only_token)] {
        // none at all is one that could not be read, which was said
        if let Some(Sourced { value, origin }) = token
            && (1..TOKEN_CHARS_MIN).contains(&value.expose().chars().count())
        {
            let message = format!(
                "the token is too short to be unguessable: at least {TOKEN_CHARS_MIN} characters, like those of \
                 `openssl rand -hex 16`"
            );
            reader.mistake(origin, &table.key(name), message);
        }
    }
    let users = reader.users(&table, "users_file");
    let secure_cookies = reader.read(&table, "secure_cookies", None, boolean);
    let trusted_proxies =
        reader.list(&table, "trusted_proxies", |given| given.text("10.0.0.5", values::network)).unwrap_or_default();
    let (has_token, has_users) = (token.is_some() || read_only_token.is_some(), users.is_some());
    if let Some(Sourced { value: values::WebListen(Some(address)), origin }) = &listen
        && !address.ip().is_loopback()
        && !has_token
        && !has_users
    {
        let message = format!(
            "{address} is not a loopback address, and nobody would have to log in: set token_file or users_file under \
             [web], or listen on 127.0.0.1"
        );
        reader.mistake(origin, "web.listen", message);
    }
    let listen = listen.or_default(values::WebListen(default.map(|web| web.listen))).0?;
    Some(WebConfig {
        token: token.value(),
        read_only_token: read_only_token.value(),
        users: users.unwrap_or_default(),
        secure_cookies: secure_cookies.or_default(false),
        trusted_proxies,
        ..WebConfig::at(listen)
    })
}
