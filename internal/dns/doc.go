// Package dns answers the DNS queries of a program beside a mesh, and knows to the second how long an answer is good. A [Server]
// gives the names of a [Zone] their addresses and asks the system's name servers for everything else, once for each time to live;
// [Automatic] finds addresses for hosts that have none; a [Lookup] is net's resolver that also says how long its answers are good.
// It knows no mesh: which names there are is for others to say.
//
//	s, err := dns.Listen(dns.Config{Addresses: []string{"127.0.0.1:15053"}, Zone: func() *dns.Zone { return zone }})
//	s.Serve()
//
// The messages are those of RFC 1035, with EDNS (RFC 6891), negative answers (RFC 2308) and TCP (RFC 7766). It checks no DNSSEC:
// what a program asks for of that is passed on.
//
// Layer L0.
package dns
