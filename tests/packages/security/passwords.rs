//! A password in an address, and a token that can be guessed: refused, and never repeated.

use crate::support::heartwatch::{PATIENCE, command, finished};

const PASSWORD: &str = "hunter2";

/// Refused as the command line's or the configuration's mistake, without the password.
async fn refuses(what: &str, directory: &std::path::Path, arguments: &[&str]) {
    let refused = finished(directory, arguments, PATIENCE).await;
    assert!(matches!(refused.code, Some(1 | 2 | 78)), "{what}: {refused:?}");
    assert!(!format!("{refused:?}").contains(PASSWORD), "{what}: {refused:?}");
    assert!(refused.stderr.len() + refused.stdout.len() > 20, "{what}: {refused:?}");
}

#[tokio::test]
async fn a_password_in_an_address_is_refused_by_every_flag_and_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    std::fs::write(here.join("a.csv"), "1\n").unwrap();
    let flags: [(&[&str], &str, &str); 16] = [
        (&["run"], "--mqtt", "mqtt"),
        (&["run"], "--influx-url", "http"),
        (&["run"], "--kafka", ""),
        (&["run"], "--etcd", "http"),
        (&["run"], "--web", ""),
        (&["run"], "--mqtt-listen", ""),
        (&["publish", "--id", "a", "--csv", "a.csv"], "--mqtt", "mqtt"),
        (&["publish", "--id", "a", "--exec", "cat"], "--udp", ""),
        (&["agent", "--id", "a"], "--server", ""),
        (&["agent", "--id", "a"], "--etcd", "http"),
        (&["agent", "--id", "a"], "--mqtt", "mqtt"),
        (&["server"], "--kafka", ""),
        (&["server"], "--etcd", "http"),
        (&["status"], "--url", "http"),
        (&["export"], "--influx-url", "http"),
        (&["demo", "1"], "--influx-url", "http"),
    ];
    for (command, flag, scheme) in flags {
        let separator = if scheme.is_empty() { "" } else { "://" };
        for address in [
            format!("{scheme}{separator}ada:{PASSWORD}@host:1883"),
            format!("{scheme}{separator}{PASSWORD}@host"),
            format!("{scheme}{separator}ada:{PASSWORD}%40host:1883"),
        ] {
            let joined = format!("{flag}={address}");
            for words in [vec![flag, address.as_str()], vec![joined.as_str()]] {
                let arguments: Vec<&str> = command.iter().copied().chain(words).collect();
                refuses(&format!("{arguments:?}"), here, &arguments).await;
            }
        }
    }
    for flag in ["--influx-url", "--mqtt"] {
        let address = format!("http://host:8086/?u=ada&p={PASSWORD}");
        refuses(flag, here, &["run", flag, &address]).await;
    }
}

#[tokio::test]
async fn a_password_in_an_address_is_refused_by_every_key_and_variable_and_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let user = format!("ada:{PASSWORD}@host");
    let keys = [
        format!("[mqtt]\nurl = 'mqtt://{user}'"),
        format!("[mqtt]\nlisten = '{user}:1883'"),
        format!("[influx]\nurl = 'http://{user}'"),
        format!("[influx]\nurl = 'http://host/?p={PASSWORD}'"),
        format!("[kafka]\nbrokers = '{user}:9092'"),
        format!("[etcd]\nendpoints = 'http://host,http://{user}'"),
        format!("[web]\nlisten = '{user}:80'"),
        format!("[monitor]\nping_url = 'http://{user}'"),
        format!("[mail]\nserver = 'smtps://{user}'\nfrom = 'a@b.example'"),
        format!("[[notify]]\nname = 'a'\nwebhook = 'https://{user}/x'"),
        format!("[[notify]]\nname = 'a'\nwebhook = 'htps://host/{PASSWORD}'"),
        format!("[[publisher]]\nid = 'a'\nexec = 'cat'\nudp = '{user}:1'"),
    ];
    for key in &keys {
        std::fs::write(here.join("heartwatch.toml"), key).unwrap();
        refuses(key, here, &["check"]).await;
    }
    std::fs::remove_file(here.join("heartwatch.toml")).unwrap();
    for (name, value) in [
        ("HEARTWATCH_MQTT", format!("mqtt://{user}")),
        ("HEARTWATCH_INFLUX_URL", format!("http://{user}")),
        ("HEARTWATCH_ETCD", format!("http://{user}")),
        ("HEARTWATCH_KAFKA", user.clone()),
        ("HEARTWATCH_WEB", user.clone()),
    ] {
        let output = command(here).arg("run").env(name, &value).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{name}: {output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains(PASSWORD), "{name}: {output:?}");
    }
    for (role, name, value) in
        [("status", "HEARTWATCH_URL", format!("http://{user}")), ("server", "HEARTWATCH_SERVER_LISTEN", user)]
    {
        let output = command(here).arg(role).env(name, &value).output().unwrap();
        assert!(!output.status.success(), "{name}: {output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains(PASSWORD), "{name}: {output:?}");
    }
}

#[tokio::test]
async fn a_token_that_can_be_guessed_is_refused_and_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    for key in ["token_file", "read_only_token_file"] {
        std::fs::write(here.join("heartwatch.toml"), format!("[web]\n{key} = 'token'\n")).unwrap();
        std::fs::write(here.join("token"), PASSWORD).unwrap();
        refuses(key, here, &["check"]).await;
        let refused = finished(here, &["run"], PATIENCE).await;
        assert!(refused.code == Some(78) && refused.stderr.contains("at least 16 characters"), "{refused:?}");
        std::fs::write(here.join("token"), "0123456789abcde").unwrap();
        refuses(key, here, &["check"]).await;
        std::fs::write(here.join("token"), "0123456789abcdef").unwrap();
        let checked = finished(here, &["check"], PATIENCE).await;
        assert!(checked.code != Some(78), "{checked:?}");
    }
    let output =
        command(here).args(["run", "--config", "none"]).env("HEARTWATCH_WEB_TOKEN", PASSWORD).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(!format!("{output:?}").contains(PASSWORD), "{output:?}");
}
