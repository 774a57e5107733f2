// Package dashboards reads Grafana's dashboards, and the PromQL in them and in Prometheus's rules, as far as it takes to say
// whether they ask for metrics and labels that there are. It evaluates nothing and is no parser of PromQL: a query that
// Prometheus refuses may pass here. Tests use it; layer 0.
//
//	board, err := dashboards.Read(text)
//	query, err := dashboards.Parse(board.Panels[0].Targets[0].Expr)
package dashboards
