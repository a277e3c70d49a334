package publish

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is a CA.
type authority struct {
	dir, file string
	root      *x509.Certificate
	key       *ecdsa.PrivateKey
}

// certificate is a pair of files.
type certificate struct{ cert, key string }

func newAuthority(t testing.TB, dir, name string) *authority {
	t.Helper()
	a := &authority{dir: dir, root: &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}}
	a.file, a.key = a.write(t, name, a.root, nil)
	return a
}

// certify makes a certificate for servers on loopback and for clients.
func (a *authority) certify(t testing.TB, name string, from, until time.Time) certificate {
	t.Helper()
	return a.issue(t, name, from, until, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
}

// certifyFor makes one that is valid, but for servers only.
func (a *authority) certifyFor(t testing.TB, name string) certificate {
	t.Helper()
	return a.issue(t, name, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), x509.ExtKeyUsageServerAuth)
}

func (a *authority) issue(t testing.TB, name string, from, until time.Time, usage ...x509.ExtKeyUsage) certificate {
	t.Helper()
	file, _ := a.write(t, name, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: usage}, a)
	return certificate{file, filepath.Join(a.dir, name+".key")}
}

// write makes a key, and a certificate of it that by signs; nil: it signs itself.
func (a *authority) write(t testing.TB, name string, c *x509.Certificate, by *authority) (file string, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.root, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(a.dir, name+".pem")
	for path, block := range map[string]*pem.Block{file: {Type: "CERTIFICATE", Bytes: der}, filepath.Join(a.dir, name+".key"): {Type: "EC PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file, key
}
