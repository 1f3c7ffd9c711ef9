//! Proxies from the environment, by the rules of Python's clients.
//!
//! A variable in small letters counts before one in capitals, even if it is empty: then there is no proxy.
//! `NO_PROXY` has names: of hosts, and of everything below them, with or without a dot before it and a port
//! behind it; `*` is every host. Networks such as `10.0.0.0/8` are understood too, which Python does not.
//! Addresses on this machine's own link (the metadata services of AWS) are never reached through a proxy.

use std::net::IpAddr;

use aws_smithy_http_client::proxy::ProxyConfig;

use super::surroundings::Variables;
use super::value::{SettingError, Value};

/// The proxies of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    except: Vec<Exception>,
}

/// A proxy. Which requests use it is decided here, not by the SDK.
#[derive(Clone)]
struct Proxy {
    config: ProxyConfig,
}

/// It may have a password in it.
impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    Everything,
    /// This host and everything below it; with a port, only that port.
    Host {
        name: String,
        port: Option<u16>,
    },
    Network {
        address: IpAddr,
        bits: u8,
    },
}

/// Through which proxy a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    Direct,
    /// Through the proxy for `http://`.
    Http,
    /// Through the proxy for `https://`.
    Https,
}

impl Proxies {
    pub(crate) fn read(variables: &Variables) -> Result<Self, SettingError> {
        let all = find(variables, "all_proxy", "ALL_PROXY")?;
        let all = all.as_ref().map(proxy).transpose()?;
        let of = |small, capital| -> Result<_, SettingError> {
            let found = find(variables, small, capital)?;
            Ok(found
                .as_ref()
                .map(proxy)
                .transpose()?
                .or_else(|| all.clone()))
        };
        // A server that runs this program for its clients sets HTTP_PROXY from a header of theirs.
        let http = if variables.has("REQUEST_METHOD") {
            "http_proxy"
        } else {
            "HTTP_PROXY"
        };
        let except = find(variables, "no_proxy", "NO_PROXY")?;
        let except = except.map(|value| value.text).unwrap_or_default();
        Ok(Self {
            http: of("http_proxy", http)?,
            https: of("https_proxy", "HTTPS_PROXY")?,
            except: except.split(',').filter_map(exception).collect(),
        })
    }

    /// Through which proxy a URL is reached.
    pub(crate) fn way(&self, url: &str) -> Way {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Way::Direct;
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let (host, port) = host_and_port(authority);
        let (way, proxy) = if scheme.eq_ignore_ascii_case("https") {
            (Way::Https, &self.https)
        } else {
            (Way::Http, &self.http)
        };
        if proxy.is_none() || is_on_the_link(host) || self.excepts(host, port) {
            return Way::Direct;
        }
        way
    }

    /// For the SDK.
    pub(crate) fn config(&self, way: Way) -> ProxyConfig {
        let proxy = match way {
            Way::Direct => None,
            Way::Http => self.http.as_ref(),
            Way::Https => self.https.as_ref(),
        };
        proxy.map_or_else(ProxyConfig::disabled, |proxy| proxy.config.clone())
    }

    fn excepts(&self, host: &str, port: Option<u16>) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        self.except.iter().any(|exception| match exception {
            Exception::Everything => true,
            Exception::Host { name, port: only } => {
                (only.is_none() || *only == port) && is_below(host, name)
            }
            Exception::Network { address: of, bits } => {
                address.is_some_and(|address| is_in(address, *of, *bits))
            }
        })
    }
}

/// As `urllib` does: small letters first, and an empty value in them is no proxy.
fn find(variables: &Variables, small: &str, capital: &str) -> Result<Option<Value>, SettingError> {
    if variables.has(small) {
        return variables.get(small);
    }
    variables.get(capital)
}

/// A URL of a proxy; without a scheme it is one of HTTP.
fn proxy(value: &Value) -> Result<Proxy, SettingError> {
    let url = if value.text.contains("://") {
        value.text.clone()
    } else {
        format!("http://{}", value.text)
    };
    let (scheme, rest) = url.split_once("://").unwrap_or(("", &url));
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err(value.malformed("a proxy is a URL that begins with http:// or https://"));
    }
    // Before the host there may be a user and a password, with any printable characters.
    let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    let plain = Value::new(value.place.clone(), format!("{scheme}://{host}"));
    if plain.url().is_err() || !user.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(value.malformed("it is not the URL of a proxy"));
    }
    // The SDK's own error says no more than that.
    let config = ProxyConfig::all(url.as_str()).ok();
    let config = config.ok_or_else(|| value.malformed("it is not the URL of a proxy"))?;
    Ok(Proxy { config })
}

fn exception(text: &str) -> Option<Exception> {
    let text = text.trim();
    if text == "*" {
        return Some(Exception::Everything);
    }
    if let Some((address, bits)) = text.split_once('/')
        && let (Ok(address), Ok(bits)) = (address.parse(), bits.parse())
    {
        return Some(Exception::Network { address, bits });
    }
    let (name, port) = host_and_port(text);
    let name = name.trim_start_matches('*').trim_start_matches('.');
    (!name.is_empty()).then(|| Exception::Host {
        name: name.to_ascii_lowercase(),
        port,
    })
}

/// `host:9000`, `[::1]:9000`, `::1`: the host without brackets, and the port.
fn host_and_port(text: &str) -> (&str, Option<u16>) {
    if text.parse::<IpAddr>().is_ok() {
        return (text, None);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (text, None),
    };
    let inside = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    (inside.unwrap_or(host), port)
}

fn is_below(host: &str, name: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host.strip_suffix(name)
        .is_some_and(|above| above.is_empty() || above.ends_with('.'))
}

fn is_in(address: IpAddr, of: IpAddr, bits: u8) -> bool {
    match (address, of) {
        (IpAddr::V4(address), IpAddr::V4(of)) if bits <= 32 => {
            let differ = address.to_bits() ^ of.to_bits();
            differ.checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(of)) if bits <= 128 => {
            let differ = address.to_bits() ^ of.to_bits();
            differ.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Whether an address is link-local: shared only with the host below this machine.
fn is_on_the_link(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        // EC2's metadata service.
        Ok(IpAddr::V6(address)) => address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254],
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(given: &[(&str, &str)]) -> Proxies {
        Proxies::read(&Variables::of(given)).unwrap()
    }

    #[test]
    fn a_variable_in_small_letters_counts_even_if_it_is_empty() {
        let url = "http://server/x";
        for (given, way) in [
            (&[][..], Way::Direct),
            (&[("HTTP_PROXY", "http://p:1")], Way::Http),
            (&[("http_proxy", "p:1")], Way::Http),
            (&[("ALL_PROXY", "http://u:pw@p:1")], Way::Http),
            (&[("HTTPS_PROXY", "http://p:1")], Way::Direct),
            (
                &[("HTTP_PROXY", "http://p:1"), ("http_proxy", "")],
                Way::Direct,
            ),
            (
                &[("HTTP_PROXY", ""), ("http_proxy", "http://p:1")],
                Way::Http,
            ),
            (
                &[("HTTP_PROXY", "http://p:1"), ("REQUEST_METHOD", "GET")],
                Way::Direct,
            ),
        ] {
            assert_eq!(proxies(given).way(url), way, "{given:?}");
        }
        let both = proxies(&[("HTTP_PROXY", "http://a:1"), ("HTTPS_PROXY", "http://b:2")]);
        assert_eq!(both.way("https://server"), Way::Https);
        assert_eq!(both.way("http://server"), Way::Http);
    }

    #[test]
    fn exceptions_are_hosts_and_what_is_below_them() {
        for (except, url, way) in [
            ("*", "http://server", Way::Direct),
            ("example.com", "http://example.com:9000/b", Way::Direct),
            ("example.com", "http://s3.EXAMPLE.com", Way::Direct),
            (".example.com", "http://example.com", Way::Direct),
            ("*.example.com", "http://a.example.com", Way::Direct),
            ("example.com", "http://notexample.com", Way::Http),
            ("a, example.com ,b", "http://example.com", Way::Direct),
            ("server:9000", "http://server:9000", Way::Direct),
            ("server:9000", "http://server:9001", Way::Http),
            ("127.0.0.1", "http://127.0.0.1:80", Way::Direct),
            ("10.0.0.0/8", "http://10.1.2.3", Way::Direct),
            ("10.0.0.0/8", "http://11.1.2.3", Way::Http),
            ("0.0.0.0/0", "http://11.1.2.3", Way::Direct),
            ("::1", "http://[::1]:9000", Way::Direct),
            ("[::1]:9000", "http://[::1]:9000", Way::Direct),
            ("", "http://server", Way::Http),
            ("/8,:,10.0.0.0/99", "http://10.0.0.1", Way::Http),
        ] {
            let given = [("HTTP_PROXY", "http://p:1"), ("NO_PROXY", except)];
            assert_eq!(proxies(&given).way(url), way, "{except} {url}");
        }
    }

    #[test]
    fn metadata_of_the_machine_is_never_behind_a_proxy() {
        let all = proxies(&[("ALL_PROXY", "http://p:1")]);
        for url in [
            "http://169.254.169.254/latest",
            "http://[fd00:ec2::254]/latest",
        ] {
            assert_eq!(all.way(url), Way::Direct, "{url}");
        }
    }

    #[test]
    fn an_invalid_proxy_is_an_error_that_shows_no_password() {
        for bad in [
            "a b",
            "socks5://p:1",
            "http://",
            "http://u:geheim@p:x",
            "http://p:99999",
        ] {
            let error = Proxies::read(&Variables::of(&[("https_proxy", bad)])).unwrap_err();
            let said = error.to_string();
            assert!(
                said.contains("https_proxy") && !said.contains("geheim"),
                "{said}"
            );
        }
    }
}
