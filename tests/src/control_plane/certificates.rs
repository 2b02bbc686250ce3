//! Certificates and keys of one control plane.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, PKCS_RSA_SHA256,
};

/// Who a client certificate speaks for: its user and, where it has one, its group.
pub(super) const ADMIN: (&str, Option<&str>) = ("admin", Some("system:masters"));
/// The controllers' user, to which the API server's built-in roles are bound.
pub(super) const CONTROLLERS: (&str, Option<&str>) = ("system:kube-controller-manager", None);

/// The scheduler's user, likewise.
pub(super) const SCHEDULER: (&str, Option<&str>) = ("system:kube-scheduler", None);
/// Who the API server is for kubelets, which it asks for logs and commands in containers.
const API_SERVER: (&str, Option<&str>) = ("kube-apiserver", Some("system:masters"));

/// A certificate authority, and the files that it has made.
pub(super) struct Certificates {
    authority: Issuer<'static, KeyPair>,
    certificate: Certificate,
    directory: PathBuf,
}

/// A certificate and its key, in files.
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Certificates {
    /// Makes an authority, the server's certificate for `names`, and the pair that signs service
    /// account tokens.
    pub(super) fn generate(directory: &Path, names: &[&str]) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name
            .push(DnType::CommonName, "kubernetes-ca");
        let certificate = ca.self_signed(&key)?;
        fs::write(directory.join("ca.crt"), certificate.pem())?;
        fs::write(directory.join("ca.key"), key.serialize_pem())?;
        let made = Self {
            authority: Issuer::new(ca, key),
            certificate,
            directory: directory.to_owned(),
        };
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut server = CertificateParams::new(names)?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        made.issue("server", &server)?;
        made.client(API_SERVER)?;
        // RSA, as clusters have it.
        let tokens = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
        fs::write(directory.join("tokens.key"), tokens.serialize_pem())?;
        fs::write(directory.join("tokens.pub"), tokens.public_key_pem())?;
        Ok(made)
    }

    /// Makes a client certificate.
    pub(super) fn client(&self, (user, group): (&str, Option<&str>)) -> anyhow::Result<Pair> {
        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            client
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&user.replace(':', "-"), &client)
    }

    fn issue(&self, name: &str, params: &CertificateParams) -> anyhow::Result<Pair> {
        let key = KeyPair::generate()?;
        let certificate = params
            .signed_by(&key, &self.authority)
            .with_context(|| format!("failed to sign the certificate of {name}"))?;
        let pair = Pair {
            certificate: self.file(&format!("{name}.crt")),
            key: self.file(&format!("{name}.key")),
        };
        fs::write(&pair.certificate, certificate.pem())?;
        fs::write(&pair.key, key.serialize_pem())?;
        Ok(pair)
    }

    /// Makes another key for service account tokens, and keeps the old one among those that verify.
    pub(super) fn rotate_token_key(&self) -> anyhow::Result<()> {
        let next = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
        let known = fs::read_to_string(self.file("tokens.pub"))?;
        fs::write(self.file("tokens.pub"), known + &next.public_key_pem())?;
        fs::write(self.file("tokens.key"), next.serialize_pem()).context("failed to replace a key")
    }

    /// One of the files: `ca.crt`, `ca.key`, `server.crt`, `server.key`, `tokens.key`, `tokens.pub`,
    /// `kube-apiserver.crt`, `kube-apiserver.key`.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The authority's certificate, PEM.
    pub(super) fn ca_pem(&self) -> String {
        self.certificate.pem()
    }

    /// The authority's certificate, DER.
    pub(super) fn ca_der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }
}
