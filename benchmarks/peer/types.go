package main

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var groupVersion = schema.GroupVersion{Group: "vercel-operator.io", Version: "v1"}

const finalizer = "vercel-operator.io/certificate"

type Team struct {
	ID   string `json:"id,omitempty"`
	Slug string `json:"slug,omitempty"`
}

type TokenSecretRef struct {
	Name string `json:"name"`
	Key  string `json:"key,omitempty"`
}

type Spec struct {
	CNs                 []string        `json:"cns"`
	Team                *Team           `json:"team,omitempty"`
	TokenSecretRef      *TokenSecretRef `json:"tokenSecretRef,omitempty"`
	RenewBefore         string          `json:"renewBefore,omitempty"`
	DeletionPolicy      string          `json:"deletionPolicy,omitempty"`
	Suspend             bool            `json:"suspend,omitempty"`
	ExistingCertificate string          `json:"existingCertificate,omitempty"`
}

type Attempt struct {
	ID         string      `json:"id"`
	Start      metav1.Time `json:"start"`
	Generation int64       `json:"generation,omitempty"`
	CNs        []string    `json:"cns,omitempty"`
	Reason     string      `json:"reason,omitempty"`
	Known      []string    `json:"known,omitempty"`
	TokenHash  string      `json:"tokenHash,omitempty"`
	Outcome    string      `json:"outcome,omitempty"`
}

type Superseded struct {
	ID     string      `json:"id"`
	Origin string      `json:"origin,omitempty"`
	Since  metav1.Time `json:"since"`
}

type Issuance struct {
	Time      metav1.Time `json:"time"`
	NamesHash string      `json:"namesHash,omitempty"`
}

type Status struct {
	ID                 string             `json:"id,omitempty"`
	Origin             string             `json:"origin,omitempty"`
	CNs                []string           `json:"cns,omitempty"`
	CreatedAt          *metav1.Time       `json:"createdAt,omitempty"`
	ExpiresAt          *metav1.Time       `json:"expiresAt,omitempty"`
	RenewalTime        *metav1.Time       `json:"renewalTime,omitempty"`
	AutoRenew          *bool              `json:"autoRenew,omitempty"`
	TokenHash          string             `json:"tokenHash,omitempty"`
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Attempt            *Attempt           `json:"attempt,omitempty"`
	Superseded         []Superseded       `json:"superseded,omitempty"`
	Issuances          []Issuance         `json:"issuances,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

type VercelCertificate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              Spec   `json:"spec"`
	Status            Status `json:"status,omitempty"`
}

type VercelCertificateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VercelCertificate `json:"items"`
}

func (in Status) copy() Status {
	out := in
	out.CNs = slices.Clone(in.CNs)
	out.Superseded = slices.Clone(in.Superseded)
	out.Issuances = slices.Clone(in.Issuances)
	out.Conditions = slices.Clone(in.Conditions)
	if in.Attempt != nil {
		attempt := *in.Attempt
		attempt.CNs = slices.Clone(in.Attempt.CNs)
		attempt.Known = slices.Clone(in.Attempt.Known)
		out.Attempt = &attempt
	}
	return out
}

func (in *VercelCertificate) DeepCopy() *VercelCertificate {
	out := &VercelCertificate{TypeMeta: in.TypeMeta, Spec: in.Spec, Status: in.Status.copy()}
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.CNs = slices.Clone(in.Spec.CNs)
	return out
}

func (in *VercelCertificate) DeepCopyObject() runtime.Object { return in.DeepCopy() }

func (in *VercelCertificateList) DeepCopyObject() runtime.Object {
	out := &VercelCertificateList{TypeMeta: in.TypeMeta}
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range in.Items {
		out.Items = append(out.Items, *in.Items[i].DeepCopy())
	}
	return out
}

func addToScheme(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(groupVersion, &VercelCertificate{}, &VercelCertificateList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
}
