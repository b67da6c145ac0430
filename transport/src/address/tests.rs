//! Addresses as people write them, good and bad.

use super::*;

#[test]
fn addresses_are_read_and_written_back() {
    let check = |text: &str, written: &str| {
        let address: Address = text.parse().expect(text);
        assert_eq!(address.to_string(), written);
        assert_eq!(written.parse::<Address>().expect(written), address);
    };
    check("embedded:./data", "embedded:./data");
    check("embedded:/a b/c?mode=relaxed&shards=4", "embedded:/a b/c?mode=relaxed&shards=4");
    check("pulsar://h", "pulsar://h:6650/public/everpulse");
    check("pulsar+ssl://h", "pulsar+ssl://h:6651/public/everpulse");
    check("pulsar://[::1]:7000/t/n", "pulsar://[::1]:7000/t/n");
    check("embedded:d ?", "embedded:d");
    check("pulsar+ssl://h:1/t/n?tls_ca=/a%26b%20c/ca.pem", "pulsar+ssl://h:1/t/n?tls_ca=/a%26b+c/ca.pem");
    check("pulsar+ssl://h:1/t/n?tls_key=k&tls_cert=/c", "pulsar+ssl://h:1/t/n?tls_cert=/c&tls_key=k");
    let issued =
        "pulsar://h:1/t/n?oauth2_key_file=/k.json&oauth2_issuer=https://i&oauth2_audience=urn:a&oauth2_scope=a+b";
    check(issued, issued);
    check(
        "pulsar://h:1/t/n?admin=http://h:2/&shards=64&inbox_partitions=8",
        "pulsar://h:1/t/n?admin=http://h:2&shards=64&inbox_partitions=8",
    );
}

#[test]
fn bad_addresses_are_refused_with_the_reason_and_an_example() {
    let check = |text: &str, expect: &[&str]| {
        let error = text.parse::<Address>().expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        for part in expect {
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    };
    check("", &["starts with neither", "pulsar://127.0.0.1:6650/public/everpulse", "embedded:./data"]);
    check("http://h:8080", &["starts with neither"]);
    check("embedded:", &["no directory", "embedded:./data"]);
    check("embedded:d?mode=fast", &["mode=fast", "durable or relaxed"]);
    check("pulsar://", &["no host"]);
    check("pulsar://h:99999", &["port", "for example"]);
    check("pulsar://a,b:6650", &["several hosts"]);
    check("pulsar://h:1/only", &["one name", "TENANT/NAMESPACE"]);
    check("pulsar://h:1/t/n/x", &["several names"]);
    check("pulsar://h:1/t/n%20n", &["namespace", "characters"]);
    check("pulsar://h:1?admin=h:8080", &["admin", "http://127.0.0.1:8080"]);
    check("pulsar+ssl://h:1?tls_cert=/c", &["tls_cert is set", "tls_key is not"]);
    check("pulsar+ssl://h:1?tls_key=/k", &["tls_key is set", "tls_cert is not"]);
    check("pulsar://h:1?tls_cert=/c", &["tls_cert", "no TLS", "pulsar+ssl://"]);
    check("pulsar://h:1?oauth2_scope=s", &["oauth2_key_file is not set"]);
    check("pulsar://h:1?oauth2_key_file=k&oauth2_issuer=i", &["oauth2_issuer", "https://"]);
    check("pulsar+ssl://h:1?admin=http://h:8080", &["admin is http://h:8080", "in plain", "https://HOST:8443"]);
    check("pulsar://h:1?oauth2_key_file=k&oauth2_issuer=http://i", &["oauth2_issuer", "in plain", "https://"]);
    check("pulsar://h:1?shards=0", &["shards=0", "1 to 1024"]);
    check("pulsar://h:1?shard=3", &["\"shard\"", "known are"]);
}

#[test]
fn what_is_secret_goes_without_tls_to_this_machine_only() {
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        let text =
            format!("pulsar+ssl://h:1/t/n?admin=http://{host}:8080&oauth2_key_file=k&oauth2_issuer=http://{host}:9090");
        assert_eq!(text.parse::<Address>().expect(host).to_string(), text);
    }
    for url in ["http://env:2", "HTTP://env:2", "http://127.0.0.1.env:2", "http://localhost.env:2"] {
        let variable = |named: &'static str| move |name: &str| (name == named).then(|| url.to_owned());
        for (named, instead) in
            [("EVERPULSE_ADMIN_URL", "https://HOST:8443"), ("EVERPULSE_OAUTH2_ISSUER", "write https://")]
        {
            let error = Address::from_variables(Some("pulsar+ssl://h"), variable(named)).expect_err(url);
            for part in [&format!("{named} is {url}"), "in plain", instead] {
                assert!(error.to_string().contains(part), "{url}: {error}");
            }
        }
    }
    // Where nothing is by TLS, the admin address need not be either.
    let plain = |name: &str| (name == "EVERPULSE_ADMIN_URL").then(|| "http://env:2".to_owned());
    assert!(Address::from_variables(Some("pulsar://h"), plain).is_ok());
}

#[test]
fn a_secret_is_neither_echoed_nor_printed() {
    let error = "pulsar://user:s3cret@h:1".parse::<Address>().expect_err("holds a password");
    assert!(!error.to_string().contains("s3cret") && !format!("{error:?}").contains("s3cret"));
    for text in [
        "http://user:s3cret@h:1",
        "pulsar://user:s3cret@h:99999",
        "pulsar://s3cret@h/only",
        "pulsar://h:1?token=s3cret",
        "pulsar://h:1/only?token=s3cret",
        "pulsar://h:1?admin=http://user:s3cret@h:2",
        "pulsar://h:1?admin=ftp://user:s3cret@h:2",
        "embedded:d?token=s3cret",
    ] {
        let error = text.parse::<Address>().expect_err(text);
        assert!(!error.to_string().contains("s3cret") && !format!("{error:?}").contains("s3cret"), "{error}");
    }
    let address = Address::embedded("d").with_token("s3cret");
    assert!(!address.to_string().contains("s3cret") && !format!("{address:?}").contains("s3cret"));
}

#[test]
fn what_is_said_explicitly_beats_the_environment() {
    let ca = |name: &str| (name == "EVERPULSE_TLS_CA").then(|| "/env.pem".to_owned());
    let text = |explicit| Address::from_variables(Some(explicit), ca).map(|address| address.to_string());
    assert_eq!(text("pulsar+ssl://h").expect("good"), "pulsar+ssl://h:6651/public/everpulse?tls_ca=/env.pem");
    let own = "pulsar+ssl://h:1/t/n?tls_ca=/own.pem";
    assert_eq!(text(own).expect("good"), own);
    assert_eq!(text("embedded:d").expect("good"), "embedded:d");

    let own = |name: &str| name.strip_prefix("EVERPULSE_TLS_").map(|name| format!("/{}", name.to_lowercase()));
    let address = Address::from_variables(Some("pulsar+ssl://h:1/t/n"), own).expect("good");
    assert_eq!(address.to_string(), "pulsar+ssl://h:1/t/n?tls_ca=/ca&tls_cert=/cert&tls_key=/key");
    let half = |name: &str| (name == "EVERPULSE_TLS_KEY").then(|| "/key".to_owned());
    let error = Address::from_variables(Some("pulsar+ssl://h"), half).expect_err("half of it");
    assert!(error.to_string().contains("EVERPULSE_TLS_CERT is not"), "{error}");

    let issued = |name: &str| match name {
        "EVERPULSE_OAUTH2_KEY_FILE" => Some("/k.json".to_owned()),
        "EVERPULSE_OAUTH2_ISSUER" => Some("https://i".to_owned()),
        _ => None,
    };
    let address = Address::from_variables(Some("pulsar://h:1/t/n"), issued).expect("good");
    let written = "pulsar://h:1/t/n?oauth2_key_file=/k.json&oauth2_issuer=https://i";
    assert_eq!(address.to_string(), written);
    let own = "pulsar://h:1/t/n?oauth2_key_file=/own.json";
    let token = |name: &str| (name == "EVERPULSE_TOKEN").then(|| "t".to_owned());
    for variable in [&issued as &dyn Fn(&str) -> Option<String>, &token] {
        assert_eq!(Address::from_variables(Some(own), variable).expect("good").to_string(), own);
    }
    let both = |name: &str| issued(name).or_else(|| token(name));
    let error = Address::from_variables(Some("pulsar://h"), both).expect_err("which one?");
    assert!(error.to_string().contains("set one of them"), "{error}");

    let variables = |name: &str| match name {
        "EVERPULSE_URL" => Some("pulsar://env:1".to_owned()),
        "EVERPULSE_ADMIN_URL" => Some("http://env:2".to_owned()),
        "EVERPULSE_TOKEN" => Some("t".to_owned()),
        _ => None,
    };
    let text = |explicit| Address::from_variables(explicit, variables).map(|address| address.to_string());
    assert_eq!(text(None).expect("good"), "pulsar://env:1/public/everpulse?admin=http://env:2");
    assert_eq!(
        text(Some("pulsar://me:1?admin=http://me:2")).expect("good"),
        "pulsar://me:1/public/everpulse?admin=http://me:2"
    );
    let address = Address::from_variables(None, variables).expect("good");
    assert_eq!(address.token, Token::Value("t".to_owned()));
    let error = Address::from_variables(None, |_| Some("x".to_owned())).expect_err("bad");
    assert!(error.to_string().starts_with("EVERPULSE_URL: "), "{error}");
}
