-- The health of a VercelCertificate, from the conditions that vercel-certificate-operator writes. The operator's
-- docs/reasons.md explains each reason, and docs/resource.md the conditions.
--
-- Ready reports whether a certificate that covers spec.cns and has not expired exists. It stays True while a renewal is in
-- progress or has failed; Issuing reports that. It is Unknown while many certificates are missing from Vercel's list.

local function condition(name)
  if obj.status ~= nil and obj.status.conditions ~= nil then
    for _, found in ipairs(obj.status.conditions) do
      if found.type == name then
        return found
      end
    end
  end
  return {}
end

local ready = condition("Ready")
local issuing = condition("Issuing")
local observed = obj.status ~= nil and obj.status.observedGeneration or 0

-- Argo CD itself shows "Pending deletion" for a resource that is being deleted. This is for other users of the script.
if obj.metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = ready.message or "The resource is being deleted." }
end

if ready.status == nil then
  return { status = "Progressing", message = "Waiting for the operator." }
end

if obj.metadata.generation ~= nil and observed < obj.metadata.generation then
  return { status = "Progressing", message = "The operator has not seen the newest spec yet." }
end

if obj.spec.suspend then
  return { status = "Suspended", message = ready.message }
end

if ready.status == "True" then
  local message = ready.message
  if issuing.reason ~= nil and issuing.reason ~= "Issued" then
    -- Show what prevents the renewal, or that it is in progress.
    message = message .. " " .. issuing.reason .. ": " .. issuing.message
  end
  return { status = "Healthy", message = message }
end

if issuing.status == "True" or ready.reason == "FirstIssue" then
  return { status = "Progressing", message = ready.message }
end

return { status = "Degraded", message = ready.reason .. ": " .. ready.message }
