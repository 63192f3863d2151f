"""The stages of the flow, one module each: a plain function from a job to files in the job's folder."""
