package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"time"
)

// serve answers every request with ready-made bytes, in plain text and under mutual TLS.
func serve(dir string) error {
	own, err := tls.LoadX509KeyPair(path(dir, "cert.pem"), path(dir, "key.pem"))
	if err != nil {
		return err
	}
	roots, err := authorities(dir)
	if err != nil {
		return err
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	secured, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}, ClientCAs: roots,
		ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return err
	}
	rpcs, err := serveRPCs()
	if err != nil {
		return err
	}
	fmt.Println(plain.Addr(), secured.Addr(), strings.Join(rpcs, ","))
	go accept(secured)
	return accept(plain)
}

var answer = []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 1024\r\n\r\n" +
	strings.Repeat("x", 1024))

func accept(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = c.Close() }()
			_ = converse(c)
		}()
	}
}

// converse takes a head and as many bytes as the only length that is sent here, and answers.
func converse(c net.Conn) error {
	br := bufio.NewReader(c)
	length := 0
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return err
		}
		if strings.EqualFold(strings.TrimSpace(string(line)), "content-length: 1024") {
			length = 1024
		}
		if len(line) > 2 {
			continue
		}
		if _, err := io.CopyN(io.Discard, br, int64(length)); err != nil {
			return err
		}
		length = 0
		if _, err := c.Write(answer); err != nil {
			return err
		}
	}
}

// writeCertificates makes an authority and one certificate, of server and client, in dir.
func writeCertificates(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		DNSNames: []string{"reviews"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: der}, "cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(path(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func authorities(dir string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("no authority in ca.pem")
	}
	return roots, nil
}
