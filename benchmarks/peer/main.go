// Peer is a controller in Go that makes the same writes and the same calls to Vercel as the operator, for `make bench`.
//
// It is what the operator is measured against, and nothing else: it has none of the operator's rules for failures.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	// controller-runtime defines the flag -kubeconfig itself.
	vercel := flag.String("vercel-api-url", "", "where Vercel's API is")
	inFlight := flag.Int("max-in-flight", 32, "calls to Vercel at a time, per token")
	workers := flag.Int("workers", 64, "resources in work at a time")
	leaderElect := flag.Bool("leader-elect", false, "work only while holding a Lease")
	flag.Parse()
	if err := run(*vercel, *inFlight, *workers, *leaderElect); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(vercel string, inFlight, workers int, leaderElect bool) error {
	ctrl.SetLogger(zap.New())
	config, err := clientcmd.BuildConfigFromFlags("", flag.Lookup("kubeconfig").Value.String())
	if err != nil {
		return err
	}
	config.QPS = -1 // the API server's own fairness is the limit, as for the operator
	config.UserAgent = "peer/1"
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	addToScheme(scheme)
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		Metrics:                       server.Options{BindAddress: "127.0.0.1:0"},
		Cache:                         cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		LeaderElection:                leaderElect,
		LeaderElectionID:              "peer",
		LeaderElectionNamespace:       "default",
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.Proxy = inFlight, nil
	work := &reconciler{
		Client:   manager.GetClient(),
		live:     manager.GetAPIReader(),
		http:     &http.Client{Transport: transport, Timeout: 2 * time.Minute},
		vercel:   vercel,
		token:    os.Getenv("VERCEL_TOKEN"),
		inFlight: inFlight,
		tokens:   map[client.ObjectKey]readToken{},
		accounts: map[string]*account{},
	}
	err = ctrl.NewControllerManagedBy(manager).
		For(&VercelCertificate{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(work)
	if err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
